"""The sheets on which methods are compared: explanations of a class, and of tokens."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from captum_ultra.attr.methods.titles import TITLES
from captum_ultra.figures.panels import (
    FONT,
    ColorScale,
    Patch,
    annotate,
    as_array,
    as_picture,
    draw_map,
    draw_scene,
    outline,
    panels,
    shown_colors,
    styled,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from captum_ultra.insights.compare import Comparison

__all__ = ["TITLES", "comparison_figure", "scaled", "token_methods_figure"]

_WRAPPED = 6  # panels in a row of a sheet of one image
_SIDE = 1.3
_PERCENTILE = 99.5
_NEGATIVE = 0.01  # of the largest value: what a signed map falls below zero; less is rounding
_UNSIGNED = ColorScale(0.0, 1.0, "magma")
_SIGNED = ColorScale(-1.0, 1.0, "RdBu_r")


@dataclass(frozen=True)
class _Bar:
    """A scale, and what is written at places of it."""

    scale: ColorScale
    places: dict[float, str]


_BARS = (
    _Bar(_UNSIGNED, {0.0: "lowest", 1.0: "highest of the map"}),
    _Bar(_SIGNED, {-1.0: "against", 0.0: "0", 1.0: "for"}),
)


@styled
def comparison_figure(found: Comparison) -> Figure:
    """One image: its maps in rows of at most six panels; several: a row an image. Under each map its runtime.

    Every map has its own scale, as the methods' units differ: maps without negative values from their smallest to
    their largest value, the others symmetric about zero, in colours that colour-blind readers tell apart.

    Args:
        found: from :func:`captum_ultra.insights.compare.compare`.

    Returns:
        A figure; ``save_figure`` writes it.

    Example:
        >>> import torch
        >>> from captum_ultra.insights.compare import compare
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> figure = comparison_figure(compare(ViTClassifier(), torch.rand(1, 3, 64, 64), methods="gae,rollout"))
        >>> [axes.get_title() for axes in figure.axes[1:3]]
        ['GAE', 'rollout']
    """
    count, methods = len(found.pictures), len(found.methods)
    rows, columns = _shape(count, 1 + methods)
    figure, axes = panels(rows, columns, _SIDE, found.pictures[0])
    width, height = figure.get_size_inches()
    figure.set_size_inches(width - 1, height + 0.2 * rows + 0.5)
    figure.suptitle(found.model, x=0.01, ha="left", fontsize=FONT)
    signed = _signed(found.maps)
    for image in range(count):
        line = axes.flat if count == 1 else axes[image]
        _draw_image(line[0], found, image)
        for method, panel in enumerate(line[1 : 1 + methods]):
            _draw_method(panel, found, image, method, signed[method])
            if image == 0:
                panel.set_title(TITLES.get(found.methods[method], found.methods[method]))
    for panel in axes.flat[1 + methods :] if count == 1 else ():
        panel.set_axis_off()
    _draw_bars(figure, axes[-1], [signed[at] for at, name in enumerate(found.methods) if name not in found.refused])
    return figure


@styled
def token_methods_figure(
    image: ArrayLike, tokens: Sequence[Patch], maps: ArrayLike, titles: Sequence[str], *, grid: tuple[int, int],
    names: Sequence[str], notes: Sequence[Sequence[str]], caption: str = "",
) -> Figure:  # fmt: skip
    """Tokens (rows) over methods (columns); the first column shows the scene and the token. Scales as above.

    Args:
        image: what the model saw, [H, W, 3] or [H, W], values in 0..1.
        tokens: T patches, (row, col).
        maps: [T, M, h, w], of any size; drawn over the whole image.
        titles: one a method.
        grid: (rows, cols) of the patch grid.
        names: one a token, written at the left, e.g. the object under it.
        notes: one a map, T lists of M, written into the map's corner, e.g. an AUC.
        caption: written below the scene.

    Returns:
        A figure; ``save_figure`` writes it.

    Example:
        >>> maps = np.random.rand(1, 2, 8, 8)
        >>> figure = token_methods_figure(
        ...     np.zeros((32, 32, 3)), [(1, 2)], maps, ["ULTra", "rollout"], grid=(8, 8), names=["disk"],
        ...     notes=[["0.99", "0.98"]],
        ... )
        >>> [axes.get_title() for axes in figure.axes[:3]]
        ['scene', 'ULTra', 'rollout']
    """
    picture, heat = as_picture(image), as_array(maps, "maps")
    signed = _signed(heat)
    figure, axes = panels(len(tokens), 1 + len(titles), _SIDE, picture)
    width, height = figure.get_size_inches()
    figure.set_size_inches(width - 1, height + 0.3)
    for panel, title in zip(axes[0], ["scene", *titles], strict=True):
        panel.set_title(title)
    for line, token, name, values, texts in zip(axes, tokens, names, heat, notes, strict=True):
        draw_scene(line[0], picture, token, grid)
        line[0].set_ylabel(f"{name}\ntoken ({token[0]}, {token[1]})")
        for panel, each, sign, note in zip(line[1:], values, signed, texts, strict=True):
            draw_map(panel, picture, scaled(each, sign), _SIGNED if sign else _UNSIGNED, raw=each)
            outline(panel, picture, token, grid)
            annotate(panel, note)
    axes[-1, 0].set_xlabel(caption, loc="left")
    _draw_bars(figure, axes[-1], signed)
    return figure


def scaled(values: NDArray[Any], signed: bool) -> NDArray[np.float64]:
    """A map [H, W] to 0..1, from its smallest value to a high percentile; signed ones to -1..1, zero staying zero.

    Example:
        >>> scaled(np.array([[1.0, 3.0]]), signed=False).round(2).tolist()
        [[0.0, 1.0]]
        >>> scaled(np.array([[-4.0, 2.0]]), signed=True).round(2).tolist()
        [[-1.0, 0.5]]
    """
    values = np.asarray(values, dtype=np.float64)
    low = 0.0 if signed else values.min()
    span = np.percentile(np.abs(values - low), _PERCENTILE) or np.abs(values - low).max() or 1.0
    return ((values - low) / span).clip(-1, 1)


def _shape(images: int, entries: int) -> tuple[int, int]:
    if images > 1:
        return images, entries
    rows = math.ceil(entries / _WRAPPED)
    return rows, math.ceil(entries / rows)


def _signed(maps: NDArray[Any]) -> list[bool]:
    """Of every method, whether its maps [B, M, H, W] have a sign: some value is clearly negative."""
    each = np.nan_to_num(maps).swapaxes(0, 1).reshape(maps.shape[1], -1)
    return [bool(values.min() < -_NEGATIVE * np.abs(values).max()) for values in each]


def _draw_image(axes: Axes, found: Comparison, image: int) -> None:
    draw_scene(axes, found.pictures[image], None, None)
    axes.set_title("image" if image == 0 else "")
    if found.names:
        axes.set_ylabel(_cut(found.names[image], 22))
    if found.targets[image] < 0:
        axes.set_xlabel("no class")
        return
    lines = [_chance(found, found.targets[image], found.probabilities[image, 0])]
    if found.targets[image] != found.predicted[image]:
        lines.append("predicted: " + _chance(found, found.predicted[image], found.probabilities[image, 1]))
    axes.set_xlabel("\n".join(lines), fontsize=FONT - len(lines) + 1)


def _chance(found: Comparison, number: int, probability: float) -> str:
    return f"{_cut(found.class_name(int(number)), 16)} {probability:.2f}"


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 3] + "..."


def _draw_method(axes: Axes, found: Comparison, image: int, method: int, signed: bool) -> None:
    name, picture = found.methods[method], found.pictures[image]
    if name in found.refused:
        axes.set_facecolor("0.94")
        axes.set_aspect(picture.shape[0] / picture.shape[1])
        reason = "\n".join(textwrap.wrap(found.refused[name], 26, max_lines=7, placeholder=" ..."))
        axes.text(0.5, 0.5, reason, transform=axes.transAxes, ha="center", va="center", fontsize=FONT - 3.5)
        axes.set_xlabel("refused")
        return
    values = found.maps[image, method]
    draw_map(axes, picture.astype(np.float64), scaled(values, signed), _SIGNED if signed else _UNSIGNED, raw=values)
    axes.set_xlabel(_milliseconds(found.milliseconds[image, method]))


def _draw_bars(figure: Figure, panels_above: NDArray[Any], signed: list[bool]) -> None:
    """A horizontal colour bar for each kind of map that there is."""
    bars = [bar for bar in _BARS if (bar.scale is _SIGNED) in signed]
    for bar, under in zip(bars, np.array_split(panels_above, len(bars)), strict=True):
        _draw_bar(figure, under, bar)


def _draw_bar(figure: Figure, under: NDArray[Any], bar: _Bar) -> None:
    """A horizontal colour bar below some panels."""
    from matplotlib.cm import ScalarMappable

    mappable = ScalarMappable(bar.scale.norm(), shown_colors(bar.scale))
    drawn = figure.colorbar(mappable, ax=under, location="bottom", fraction=0.05, pad=0.03, aspect=30, shrink=0.8)
    drawn.set_ticks(list(bar.places), labels=list(bar.places.values()))
    first, *_, last = drawn.ax.get_xticklabels()
    first.set_horizontalalignment("left")
    last.set_horizontalalignment("right")
    drawn.ax.tick_params(labelsize=FONT - 1, width=0.6, length=2)
    drawn.outline.set_linewidth(0.6)


def _milliseconds(value: float) -> str:
    """With two significant digits at least."""
    return f"{value:,.0f} ms" if value >= 10 else f"{value:.1f} ms"
