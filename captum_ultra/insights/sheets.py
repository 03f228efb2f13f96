"""Sheets: maps and regions over several images, masks of tokens, examples of perturbed images."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from captum_ultra.figures.panels import (
    TARGET,
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
from captum_ultra.insights.palette import overlay

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["masks_figure", "overlay_figure", "perturbation_examples_figure"]

_PERCENTILE = 99.5
_DIMMED = 0.25  # of the image outside a mask


@styled
def overlay_figure(
    images: Sequence[ArrayLike],
    columns: Mapping[str, Sequence[ArrayLike]],
    *,
    tokens: Sequence[Patch | None] | None = None,
    grid: tuple[int, int] | None = None,
    names: Sequence[str] | None = None,
    caption: str = "",
) -> Figure:
    """A row for each image and a column for each method: its map, or its regions, over the image.

    Maps of different methods have different units, so each has its own scale: from zero to its highest value
    (99.5th percentile), symmetric about zero where it is signed.

    Args:
        images: B images [H, W, 3] or [H, W], values in 0..1.
        columns: title -> B arrays: floating point [h, w] are maps, integers [H, W] of the image's size are labels
            of regions.
        tokens: one patch (row, col) an image, outlined where it is not None.
        grid: (rows, cols) of the patch grid; needed with ``tokens``.
        names: one an image, written at the left.
        caption: written below the first image, e.g. the model's name.

    Returns:
        A figure; :func:`captum_ultra.insights.figures.save_figure` writes it.

    Raises:
        ValueError: for numbers of arrays that differ, or shapes that do not fit together.

    Example:
        >>> image = np.zeros((8, 8, 3))
        >>> figure = overlay_figure([image], {"map": [np.eye(4)], "regions": [np.eye(8, dtype=int)]})
        >>> [axes.get_title() for axes in figure.axes[:3]]
        ['image', 'map', 'regions']
    """
    pictures = [as_picture(image) for image in images]
    if not pictures or not columns:
        raise ValueError(
            f"{len(pictures)} images and {len(columns)} columns were given; at least one of both is needed"
        )
    for title, found in columns.items():
        _check_count(found, len(pictures), f"arrays in the column {title!r}")
    names = [""] * len(pictures) if names is None else _check_count(names, len(pictures), "names")
    tokens = [None] * len(pictures) if tokens is None else _check_count(tokens, len(pictures), "tokens")
    figure, axes = panels(len(pictures), 1 + len(columns), 1.4, pictures[0])
    signs: set[bool] = set()
    for row, (picture, name, token) in enumerate(zip(pictures, names, tokens, strict=True)):
        draw_scene(axes[row, 0], picture, token, grid)
        axes[row, 0].set_ylabel(name)
        for panel, (title, found) in zip(axes[row, 1:], columns.items(), strict=True):
            panel.set_title(title if row == 0 else "")
            signs |= _draw_overlay(panel, picture, np.asarray(found[row]))
            outline(panel, picture, token, grid)
    axes[0, 0].set_title("image")
    axes[-1, 0].set_xlabel(caption, loc="left")
    if False in signs:
        color_bar(figure, axes, ColorScale.of([0.0, 1.0], 100), "relevance (own scale)")
    if True in signs:
        color_bar(figure, axes, ColorScale.of([-1.0, 1.0], 100), "against < 0 < for")
    return figure


@styled
def masks_figure(
    image: ArrayLike,
    maps: ArrayLike,
    tokens: Sequence[Patch],
    *,
    grid: tuple[int, int],
    thresholds: Sequence[float] = (0.2,),
    names: Sequence[str] | None = None,
    notes: Sequence[Sequence[str]] | None = None,
    caption: str = "",
) -> Figure:
    """Tokens (rows): the image, the map, and the object that the map shows, one column for each threshold.

    Inside a mask the image is as it is, outside it is dimmed.

    Args:
        image: what the model saw, [H, W, 3] or [H, W], values in 0..1.
        maps: [T, h, w], one a token, of any size.
        tokens: T patches, (row, col).
        grid: (rows, cols) of the patch grid.
        thresholds: tau, each in 0..1; 0.2 in the paper.
        names: one a token, written at the left, e.g. the object under it.
        notes: one a mask, T lists with an entry for each threshold, e.g. the IoU.
        caption: written below the image, e.g. the model's name.

    Returns:
        A figure; :func:`captum_ultra.insights.figures.save_figure` writes it.

    Raises:
        ValueError: for shapes that do not fit together, a threshold out of range, a token outside the grid.

    Source:
        ULTra (arXiv 2411.12589), eq. 14; see :func:`captum_ultra.segmentation.object_mask`.

    Example:
        >>> figure = masks_figure(np.zeros((8, 8, 3)), np.eye(4)[None], [(0, 0)], grid=(4, 4), thresholds=(0.2, 0.5))
        >>> [axes.get_title() for axes in figure.axes[:4]]
        ['image', 'map', 'tau = 0.2', 'tau = 0.5']
    """
    import torch

    from captum_ultra.segmentation.object_selection import object_mask

    picture, heat = as_picture(image), as_array(maps, "maps")
    if heat.ndim != 3 or len(heat) != len(tokens) or not len(thresholds):
        raise ValueError(
            f"maps have shape {heat.shape}; expected [T, h, w] for T = {len(tokens)} tokens, and at least one threshold"
        )
    names = [""] * len(tokens) if names is None else _check_count(names, len(tokens), "names")
    if notes is not None and [len(row) for row in notes] != [len(thresholds)] * len(tokens):
        raise ValueError(f"notes must hold one text a mask: {len(tokens)} rows of {len(thresholds)}")
    scale = ColorScale.of(heat, _PERCENTILE)
    figure, axes = panels(len(tokens), 2 + len(thresholds), 1.4, picture)
    for row, (token, values) in enumerate(zip(tokens, heat, strict=True)):
        draw_scene(axes[row, 0], picture, token, grid)
        axes[row, 0].set_ylabel(names[row])
        draw_map(axes[row, 1], picture, values, scale)
        outline(axes[row, 1], picture, token, grid)
        for column, threshold in enumerate(thresholds):
            mask = object_mask(torch.from_numpy(values), threshold).numpy()
            _draw_mask(axes[row, 2 + column], picture, mask)
            outline(axes[row, 2 + column], picture, token, grid)
            if notes is not None:
                annotate(axes[row, 2 + column], notes[row][column])
    for panel, title in zip(axes[0], ["image", "map", *(f"tau = {each:g}" for each in thresholds)], strict=True):
        panel.set_title(title)
    axes[-1, 0].set_xlabel(caption, loc="left")
    color_bar(figure, axes, scale, "relevance")
    return figure


@styled
def perturbation_examples_figure(
    image: ArrayLike,
    values: ArrayLike,
    perturbed: Mapping[str, Sequence[ArrayLike]],
    fractions: Sequence[float],
    *,
    token: Patch,
    grid: tuple[int, int],
    distances: Mapping[str, Sequence[float]] | None = None,
    caption: str = "",
) -> Figure:
    """What a perturbation test shows the model: a row for each order, a column for each share of patches.

    Args:
        image: what the model saw, [H, W, 3] or [H, W], values in 0..1.
        values: the map that orders the patches, [h, w].
        perturbed: order -> F images of the size of ``image``, values in 0..1, e.g. ``"most relevant first"``.
        fractions: F shares of perturbed patches.
        token: the tested patch (row, col).
        grid: (rows, cols) of the patch grid.
        distances: order -> F distances of the latent token, written into the images.
        caption: written below the image, e.g. the model, the layer and the score.

    Returns:
        A figure; :func:`captum_ultra.insights.figures.save_figure` writes it.

    Raises:
        ValueError: for shapes and numbers that do not fit together, or a token outside the grid.

    Source:
        ULTra (arXiv 2411.12589), perturbation test; see :func:`captum_ultra.perturbation.perturb_patches`.

    Example:
        >>> image = np.full((8, 8, 3), 0.5)
        >>> orders = {"most relevant first": [image, image], "least relevant first": [image, image]}
        >>> figure = perturbation_examples_figure(image, np.eye(4), orders, (0.2, 0.5), token=(1, 1), grid=(4, 4))
        >>> [axes.get_title() for axes in figure.axes[:4]]
        ['image', 'map', '20 %', '50 %']
    """
    picture, heat = as_picture(image), as_array(values, "values")
    if heat.ndim != 2 or not perturbed or not len(fractions):
        raise ValueError(f"values have shape {heat.shape}; expected [h, w], and at least one order and one fraction")
    if distances is not None and set(distances) != set(perturbed):
        raise ValueError(f"distances of {sorted(distances)} were given for the orders {sorted(perturbed)}")
    figure, axes = panels(len(perturbed), 2 + len(fractions), 1.25, picture)
    scale = ColorScale.of(heat, _PERCENTILE)
    for row, (order, pictures) in enumerate(perturbed.items()):
        _check_count(pictures, len(fractions), f"images of the order {order!r}")
        for column, given in enumerate(pictures):
            panel, shown = axes[row, 2 + column], as_picture(given)
            if shown.shape != picture.shape:
                raise ValueError(f"an image of the order {order!r} has shape {shown.shape}, the image {picture.shape}")
            draw_scene(panel, shown, token, grid)
            if distances is not None:
                annotate(panel, f"{_check_count(distances[order], len(fractions), 'distances')[column]:.2f}")
        axes[row, 2].set_ylabel("\n".join(textwrap.wrap(order, 16)))
    for panel in axes[1:, :2].flat:
        panel.set_axis_off()
    draw_scene(axes[0, 0], picture, token, grid)
    draw_map(axes[0, 1], picture, heat, scale)
    outline(axes[0, 1], picture, token, grid)
    for panel, title in zip(axes[0], ["image", "map", *(f"{100 * each:g} %" for each in fractions)], strict=True):
        panel.set_title(title)
    axes[0, 0].set_xlabel(caption, loc="left")
    color_bar(figure, axes, scale, "relevance")
    return figure


def _draw_overlay(axes: Axes, picture: NDArray[Any], values: NDArray[Any]) -> set[bool]:
    """Draw a map or labels; whether the map is signed, nothing for labels."""
    if values.dtype.kind in "iu":
        color = picture if picture.ndim == 3 else np.repeat(picture[..., None], 3, axis=-1)
        draw_scene(axes, overlay(color, values) / 255, None, None)
        return set()
    heat = as_array(values, "a map")
    if heat.ndim != 2:
        raise ValueError(f"a map has shape {heat.shape}; expected [h, w]")
    own = ColorScale.of(heat, _PERCENTILE)
    draw_map(axes, picture, heat / own.high, ColorScale(own.low / own.high, 1.0, own.cmap))
    return {own.low < 0}


def _draw_mask(axes: Axes, picture: NDArray[Any], mask: NDArray[np.bool_]) -> None:
    (height, width), (rows, columns) = picture.shape[:2], mask.shape
    inside = mask[np.ix_(np.arange(height) * rows // height, np.arange(width) * columns // width)]
    weight = np.where(inside, 1.0, _DIMMED)
    draw_scene(axes, picture * (weight if picture.ndim == 2 else weight[..., None]), None, None)
    if inside.any() and not inside.all():
        axes.contour(
            np.arange(width) + 0.5, np.arange(height) + 0.5, inside.astype(float), [0.5], colors=TARGET, linewidths=0.8
        )


def _check_count(given: Sequence[Any], count: int, what: str) -> Sequence[Any]:
    if len(given) != count:
        raise ValueError(f"{len(given)} {what} were given; {count} are needed")
    return given
