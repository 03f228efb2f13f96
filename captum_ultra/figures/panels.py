"""The parts of a figure: panels, the image, a map over it, the outlined token, the colour bar."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

__all__ = [
    "ColorScale",
    "Patch",
    "annotate",
    "as_array",
    "as_picture",
    "color_bar",
    "draw_map",
    "draw_scene",
    "outline",
    "panels",
    "shown_colors",
    "styled",
]

P = ParamSpec("P")
R = TypeVar("R")
Patch = tuple[int, int]
Array = NDArray[np.floating[Any]]

HEAT = (0.5, 0.88)  # the map's share of a panel's colour at both ends of the scale; the rest is the image
TARGET = "#00d5ff"  # far from every colour of the maps' scale
UNDERSHOOT = 0.15  # of the scale: what bicubic enlargement may fall below zero
FONT = 8.0
STYLE: Any = {
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.titlepad": 3.0,
    "axes.labelsize": FONT,
    "axes.linewidth": 0.6,
    "text.parse_math": False,  # names of files and classes may hold a dollar
    "pdf.fonttype": 42,
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class ColorScale:
    """One colour scale for all maps of a figure.

    Attributes:
        low, high: the values at the ends; what lies beyond takes the end's colour.
        cmap: a matplotlib colour map.
    """

    low: float
    high: float
    cmap: str

    @classmethod
    def of(cls, maps: ArrayLike, percentile: float = 99.0) -> ColorScale:
        """From 0 to a high percentile, so that one extreme entry does not darken all others.

        Signed maps get a scale that is symmetric about 0; the small negative values that bicubic
        enlargement makes of non-negative ones do not count.

        Raises:
            ValueError: for a percentile outside (0, 100], or values that are not finite.

        Example:
            >>> ColorScale.of([0.0, 1.0, 2.0], percentile=100)
            ColorScale(low=0.0, high=2.0, cmap='magma')
            >>> ColorScale.of([-3.0, 1.0], percentile=100)
            ColorScale(low=-3.0, high=3.0, cmap='RdBu_r')
        """
        if not 0 < percentile <= 100:
            raise ValueError(f"percentile is {percentile}; it must lie in (0, 100].")
        values = np.asarray(maps, dtype=np.float64)
        if not np.isfinite(values).all():
            raise ValueError("maps hold values that are not finite; nothing can be drawn.")
        high = float(np.percentile(np.abs(values), percentile)) or float(np.abs(values).max()) or 1.0
        signed = np.percentile(values, 100 - percentile) < -UNDERSHOOT * high
        return cls(-high, high, "RdBu_r") if signed else cls(0.0, high, "magma")

    def norm(self) -> Normalize:
        """The scale as matplotlib takes it."""
        from matplotlib.colors import Normalize

        return Normalize(self.low, self.high, clip=True)


def styled(draw: Callable[P, R]) -> Callable[P, R]:
    """Draw with the fonts and lines of this module, whatever the caller's settings are."""

    @wraps(draw)
    def draw_styled(*args: P.args, **kwargs: P.kwargs) -> R:
        from matplotlib import rc_context

        with rc_context(STYLE):
            return draw(*args, **kwargs)

    return draw_styled


def panels(rows: int, columns: int, side: float, picture: Array) -> tuple[Figure, NDArray[Any]]:
    """A figure of equal panels without ticks; ``side`` is a panel's width in inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(compress=True, w_pad=0.02, h_pad=0.02, wspace=0.02, hspace=0.02)
    height = side * picture.shape[0] / picture.shape[1]
    figure = Figure(figsize=(columns * side + 1.0, rows * height + 0.35), layout=layout)
    FigureCanvasAgg(figure)
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel in axes.flat:
        panel.set(xticks=[], yticks=[])
    return figure, axes


def draw_scene(axes: Axes, picture: Array, token: Patch | None, grid: tuple[int, int] | None) -> None:
    axes.imshow(picture, extent=_extent(picture), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    outline(axes, picture, token, grid)


def draw_map(axes: Axes, picture: Array, values: Array, scale: ColorScale, raw: Array | None = None) -> None:
    """The map in colour over the image in grey; one bitmap, so that vector formats keep it sharp.

    A map without a place that stands out says so; ``raw`` is the map before it was scaled, where that differs.
    """
    grey = picture if picture.ndim == 2 else picture @ np.array([0.299, 0.587, 0.114])
    axes.imshow(
        _blend(_resized(values, picture.shape[:2]), grey, scale), extent=_extent(picture), interpolation="nearest"
    )
    found = values if raw is None else raw
    if not found.any():
        _write(axes, 0.5, 0.5, "zero:\nno relevance", ha="center", va="center")
    elif found.min() == found.max():
        _write(axes, 0.5, 0.5, "the same\neverywhere", ha="center", va="center")


def _blend(values: Array, grey: Array, scale: ColorScale) -> Array:
    """RGB [..., 3]: little relevance lets the image through, much of it covers the image."""
    from matplotlib import colormaps

    colors = colormaps[scale.cmap](scale.norm()(values))[..., :3]
    strength = np.abs(values).clip(0, scale.high) / scale.high
    share = (HEAT[0] + (HEAT[1] - HEAT[0]) * strength)[..., None]
    return share * colors + (1 - share) * grey[..., None]


def _resized(values: Array, shape: tuple[int, ...]) -> Array:
    """Values [h, w] repeated to cover [H, W]: every pixel takes the value of the cell it lies in."""
    rows = np.arange(shape[0]) * values.shape[0] // shape[0]
    columns = np.arange(shape[1]) * values.shape[1] // shape[1]
    return values[rows[:, None], columns]


def outline(axes: Axes, picture: Array, token: Patch | None, grid: tuple[int, int] | None) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    if token is None:
        return
    if grid is None:
        raise ValueError("a token is outlined on a patch grid: give grid=(rows, cols).")
    (row, column), (rows, columns) = token, grid
    if not (0 <= row < rows and 0 <= column < columns):
        raise ValueError(f"token {token} lies outside the patch grid of {rows} x {columns}.")
    height, width = picture.shape[0] / rows, picture.shape[1] / columns
    frame = Rectangle((column * width, row * height), width, height, fill=False, edgecolor=TARGET, lw=1.1)
    frame.set_path_effects([Stroke(linewidth=2.2, foreground="black"), Normal()])
    axes.add_patch(frame)


def annotate(axes: Axes, note: str) -> None:
    """A note in the corner of a panel."""
    _write(axes, 0.97, 0.03, note, ha="right", va="bottom")


def _write(axes: Axes, x: float, y: float, note: str, **alignment: Any) -> None:
    from matplotlib.patheffects import withStroke

    text = axes.text(x, y, note, transform=axes.transAxes, color="white", **alignment)
    text.set_fontsize(FONT - 1.5)
    text.set_path_effects([withStroke(linewidth=1.5, foreground="black")])


def color_bar(figure: Figure, axes: NDArray[Any], scale: ColorScale, label: str) -> None:
    """A bar in the colours that the panels show: the map's, over a middle grey."""
    from matplotlib.cm import ScalarMappable

    mappable = ScalarMappable(scale.norm(), shown_colors(scale))
    bar = figure.colorbar(mappable, ax=axes, fraction=0.05, pad=0.015, aspect=25)
    bar.set_label(label)
    bar.formatter.set_powerlimits((-2, 4))  # type: ignore[attr-defined]
    bar.ax.yaxis.get_offset_text().set_fontsize(FONT - 1.5)
    bar.ax.tick_params(labelsize=FONT - 1.5, width=0.6, length=2)
    bar.outline.set_linewidth(0.6)


def shown_colors(scale: ColorScale) -> Colormap:
    """The colours of a scale as the panels show them, over a middle grey."""
    from matplotlib.colors import ListedColormap

    return ListedColormap(_blend(np.linspace(scale.low, scale.high, 256), np.full(256, 0.5), scale))


def _extent(picture: Array) -> tuple[float, float, float, float]:
    return (0, picture.shape[1], picture.shape[0], 0)


def as_picture(image: ArrayLike) -> Array:
    picture = as_array(image, "image")
    if not (picture.ndim == 2 or (picture.ndim == 3 and picture.shape[2] == 3)):
        move = "image.permute(1, 2, 0), of an array image.transpose(1, 2, 0)"
        hint = f" Move the channels to the end: {move}." if picture.ndim == 3 and len(picture) == 3 else ""
        raise ValueError(f"image has shape {picture.shape}; expected [H, W, 3] or [H, W].{hint}")
    if picture.min() < 0 or picture.max() > 1:
        raise ValueError(
            f"image has values from {picture.min():.3g} to {picture.max():.3g}; expected 0..1: undo the "
            "model's normalisation, or divide bytes by 255."
        )
    return picture


def as_array(values: ArrayLike, name: str) -> Array:
    """Numbers as float64; tensors come over through their numpy interface."""
    array = np.asarray(values, dtype=np.float64)
    if array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name} of shape {array.shape} must be finite and not empty.")
    return array
