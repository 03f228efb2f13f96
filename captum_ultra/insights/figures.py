"""Figures for papers: the map of one token in detail, and maps of several tokens over the layers.

All functions build a `matplotlib.figure.Figure` of their own and leave pyplot's state alone, so they
run without a display and inside other programs. One figure has one colour scale, drawn beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from numpy.typing import ArrayLike

from captum_ultra.attr.attribution import DEFAULT_SCORE
from captum_ultra.figures.panels import (
    ColorScale,
    Patch,
    annotate,
    as_array,
    as_picture,
    color_bar,
    draw_map,
    draw_scene,
    outline,
    panels,
    styled,
)
from captum_ultra.figures.saving import check_suffix, save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_suffix", "explain_figure", "save_figure", "token_layers_figure"]


@styled
def explain_figure(
    image: ArrayLike,
    maps: ArrayLike,
    *,
    token: Patch | None = None,
    grid: tuple[int, int] | None = None,
    titles: Sequence[str] | None = None,
    title: str = "image",
    label: str = "relevance",
    caption: str = "",
    percentile: float = 99.5,
) -> Figure:
    """The image with the explained token outlined, and beside it one map or several.

    Args:
        image: what the model saw, [H, W, 3] or [H, W], values in 0..1.
        maps: [h, w] or [M, h, w], of any size; drawn over the whole image.
        token: the explained patch, (row, col); None outlines nothing.
        grid: (rows, cols) of the patch grid; needed with ``token``.
        titles: one a map, e.g. ``"layer 9, sum"``.
        title: of the image.
        label: what the colours mean.
        caption: written below, e.g. the model's name.
        percentile: of the values at the end of the colour scale.

    Returns:
        A figure; `save_figure` writes it.

    Raises:
        ValueError: for shapes that do not fit together, a token outside the grid, maps with NaN.

    Example:
        >>> import numpy as np
        >>> figure = explain_figure(np.zeros((32, 32, 3)), np.eye(8), token=(1, 2), grid=(8, 8))
        >>> [axes.get_title() for axes in figure.axes[:2]]
        ['image', '']
    """
    picture, heat = as_picture(image), as_array(maps, "maps")
    heat = heat[None] if heat.ndim == 2 else heat
    if heat.ndim != 3:
        raise ValueError(f"maps have shape {heat.shape}; expected [h, w] or [M, h, w].")
    titles = [""] * len(heat) if titles is None else list(titles)
    if len(titles) != len(heat):
        raise ValueError(f"{len(titles)} titles were given for {len(heat)} maps.")

    scale = ColorScale.of(heat, percentile)
    figure, axes = panels(1, 1 + len(heat), 2.1, picture)
    draw_scene(axes[0, 0], picture, token, grid)
    axes[0, 0].set_title(title)
    axes[0, 0].set_xlabel(caption, loc="left")
    for panel, values, name in zip(axes[0, 1:], heat, titles, strict=True):
        draw_map(panel, picture, values, scale)
        outline(panel, picture, token, grid)
        panel.set_title(name)
    color_bar(figure, axes, scale, label)
    return figure


@styled
def token_layers_figure(
    image: ArrayLike,
    tokens: Sequence[Patch],
    maps: ArrayLike,
    layers: Sequence[int],
    *,
    grid: tuple[int, int],
    score: str = DEFAULT_SCORE,
    names: Sequence[str] | None = None,
    notes: Sequence[Sequence[str]] | None = None,
    percentile: float = 99.0,
) -> Figure:
    """Tokens (rows) over layers (columns); the first column shows the scene and the token.

    Args:
        image: what the model saw, [H, W, 3] or [H, W], values in 0..1.
        tokens: T patches, (row, col).
        maps: [T, L, h, w], of any size; drawn over the whole image, on one colour scale.
        layers: L numbers of blocks passed.
        grid: (rows, cols) of the patch grid.
        score: the score that was explained; named beside the colour bar.
        names: one a token, written at the left, e.g. the object under it.
        notes: one a map, T lists of L, written into the map's corner, e.g. an AUC.
        percentile: of the values at the end of the colour scale.

    Returns:
        A figure; `save_figure` writes it.

    Raises:
        ValueError: for shapes that do not fit together, a token outside the grid, maps with NaN.

    Example:
        >>> import numpy as np
        >>> figure = token_layers_figure(
        ...     np.zeros((32, 32, 3)), [(1, 2)], np.ones((1, 2, 8, 8)), [1, 6], grid=(8, 8)
        ... )
        >>> [axes.get_title() for axes in figure.axes[:3]]
        ['scene', 'layer 1', 'layer 6']
    """
    picture, heat = as_picture(image), as_array(maps, "maps")
    if heat.ndim != 4 or heat.shape[:2] != (len(tokens), len(layers)) or 0 in heat.shape:
        raise ValueError(
            f"maps have shape {heat.shape}; expected [T, L, h, w] for T = {len(tokens)} tokens and "
            f"L = {len(layers)} layers."
        )
    names = [""] * len(tokens) if names is None else list(names)
    if len(names) != len(tokens):
        raise ValueError(f"{len(names)} names were given for {len(tokens)} tokens.")
    if notes is not None and [len(row) for row in notes] != [len(layers)] * len(tokens):
        raise ValueError(f"notes must hold one text a map: {len(tokens)} rows of {len(layers)}.")

    scale = ColorScale.of(heat, percentile)
    figure, axes = panels(len(tokens), 1 + len(layers), 1.15, picture)
    axes[0, 0].set_title("scene")
    for column, layer in enumerate(layers, start=1):
        axes[0, column].set_title(f"layer {layer}")
    for t, token in enumerate(tokens):
        draw_scene(axes[t, 0], picture, token, grid)
        place = f"token ({token[0]}, {token[1]})"
        axes[t, 0].set_ylabel(f"{names[t]}\n{place}" if names[t] else place)
        for panel, values in zip(axes[t, 1:], heat[t], strict=True):
            draw_map(panel, picture, values, scale)
            outline(panel, picture, token, grid)
        for panel, note in zip(axes[t, 1:], notes[t] if notes else (), strict=False):
            annotate(panel, note)
    color_bar(figure, axes, scale, f"relevance (score: {score})")
    return figure
