"""Figures of evaluations: measured numbers with their intervals, and published ones beside them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from captum_ultra.figures.panels import styled
from captum_ultra.insights.palette import label_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from captum_ultra.experiments.evaluate.rows import Row

__all__ = ["curves_figure", "panels_figure", "points_figure"]

_MARKERS = "osv^"


@styled
def points_figure(rows: Sequence[Row]) -> Figure:
    """One line a row: the measured number with its interval, and a hollow diamond where one is published.

    Args:
        rows: of one unit.

    Returns:
        A figure; :func:`captum_ultra.insights.figures.save_figure` writes it.

    Raises:
        ValueError: for no rows, or rows of several units.

    Example:
        >>> from captum_ultra.experiments.evaluate.rows import Row
        >>> from captum_ultra.intervals import Interval
        >>> figure = points_figure([Row("ULTra_S", "U.ACC", Interval(61.0, 60.0, 62.0), published=60.8)])
        >>> figure.axes[0].get_xlabel()
        '%'
    """
    units = {row.unit for row in rows}
    if len(units) != 1:
        raise ValueError(f"rows must have one unit, got {sorted(units)}; panels_figure draws several")
    figure = _figure(4.2, 0.7 + 0.28 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        _point(axes, place, row)
    axes.set_yticks(range(len(rows)), [f"{row.name}, {row.metric}" for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel(units.pop())
    axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    _legend(axes)
    return figure


@styled
def panels_figure(rows: Sequence[Row]) -> Figure:
    """One panel a metric, one line a name in each: measured numbers with intervals, hollow diamonds for published ones.

    Args:
        rows: of any units; a name has at most one row of every metric.

    Returns:
        A figure; :func:`captum_ultra.insights.figures.save_figure` writes it.

    Raises:
        ValueError: for no rows.

    Example:
        >>> from captum_ultra.experiments.evaluate.rows import Row
        >>> from captum_ultra.intervals import Interval
        >>> rows = [Row("GAE", metric, Interval(61.0, 60.0, 62.0)) for metric in ("mAP", "mIoU")]
        >>> [axes.get_title() for axes in panels_figure(rows).axes]
        ['mAP (%)', 'mIoU (%)']
    """
    if not rows:
        raise ValueError("there are no rows to draw")
    metrics, names = list(dict.fromkeys(row.metric for row in rows)), list(dict.fromkeys(row.name for row in rows))
    figure = _figure(1.6 + 2.0 * len(metrics), 0.9 + 0.28 * len(names))
    panels = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        shown = [row for row in rows if row.metric == metric]
        for row in shown:
            _point(axes, names.index(row.name), row)
        axes.set_title(f"{metric} ({shown[0].unit})" if shown[0].unit else metric)
        axes.grid(axis="x", linewidth=0.4, alpha=0.5)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    _legend(panels[0])
    return figure


@styled
def curves_figure(rows: Sequence[Row], axis: str) -> Figure:
    """One panel a metric and one curve a score, with bands for the intervals.

    Rows without a place on the axis are drawn as dashed lines across the panel; published numbers as hollow diamonds.

    Args:
        rows: of a study that sweeps.
        axis: what is swept.

    Returns:
        A figure; :func:`captum_ultra.insights.figures.save_figure` writes it.

    Raises:
        ValueError: if no row has a place.

    Example:
        >>> from captum_ultra.experiments.evaluate.rows import Row
        >>> from captum_ultra.intervals import Interval
        >>> rows = [Row("ULTra_S", "ITIoU", Interval(30.0, 28.0, 32.0), at=at) for at in (0.1, 0.2)]
        >>> curves_figure(rows, "tau").axes[0].get_xlabel()
        'tau'
    """
    metrics = list(dict.fromkeys(row.metric for row in rows if row.at is not None))
    if not metrics:
        raise ValueError("no row has a place on the axis; panels_figure draws rows without")
    names = list(dict.fromkeys(row.name for row in rows))
    figure = _figure(2.5 * len(metrics) + 0.3, 2.3)
    for axes, metric in zip(figure.subplots(1, len(metrics), squeeze=False)[0], metrics, strict=True):
        shown = [row for row in rows if row.metric == metric]
        for number, name in enumerate(names):
            _curve(axes, [row for row in shown if row.name == name], name, number)
        unit = shown[0].unit
        axes.set(title=f"{metric} ({unit})" if unit else metric, xlabel=axis)
        axes.grid(linewidth=0.4, alpha=0.5)
    _legend(figure.axes[0])
    return figure


def _point(axes: Axes, place: int, row: Row) -> None:
    measured, published = row.measured, row.published
    if measured.low == measured.low:
        axes.plot([measured.low, measured.high], [place, place], color=_color(0), linewidth=1.2)
    axes.plot(measured.mean, place, "o", color=_color(0), markersize=4, label="measured" if place == 0 else None)
    if published is not None:
        _diamond(axes, published, place)


def _curve(axes: Axes, rows: Sequence[Row], name: str, number: int) -> None:
    color, placed = _color(number), [row for row in rows if row.at is not None]
    places = [row.at for row in placed if row.at is not None]
    marker = _MARKERS[number % len(_MARKERS)]
    axes.plot(places, [row.measured.mean for row in placed], color=color, marker=marker, markersize=3.5, label=name)
    axes.fill_between(
        places, [row.measured.low for row in placed], [row.measured.high for row in placed],
        color=color, alpha=0.2, linewidth=0,
    )  # fmt: skip
    for row in rows:
        if row.at is None:
            axes.axhline(row.measured.mean, color=color, linestyle="--", linewidth=0.9, label=f"{name}, oracle k")
        elif row.published is not None:
            _diamond(axes, row.at, row.published)


def _diamond(axes: Axes, x: float, y: float) -> None:
    label = None if "published" in axes.get_legend_handles_labels()[1] else "published"
    axes.plot(x, y, "D", color="black", markerfacecolor="none", markersize=5, linestyle="none", label=label)


def _figure(width: float, height: float) -> Figure:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _legend(axes: Axes) -> None:
    axes.legend(frameon=False, fontsize="small")


def _color(number: int) -> str:
    return "#" + bytes(label_colors(number + 1)[number].tolist()).hex()
