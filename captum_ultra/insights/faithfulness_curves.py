"""Figures of perturbation tests of explanations of a class: curves with shaded intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from captum_ultra.figures.panels import styled
from captum_ultra.insights.palette import label_colors

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from torch import Tensor

    from captum_ultra.perturbation.class_result import ClassPerturbationResult, Curve

__all__ = ["curve_axes", "faithfulness_curves_figure", "orders_figure"]

_GREY = (0.45, 0.45, 0.45)  # the control is no competitor
_SHADE = 0.18  # of a band
_FEW = 4  # methods; the bands of more hide each other unless they are paler
_TITLES = {
    "positive": "most relevant removed first\n(lower is better)",
    "negative": "least relevant removed first\n(higher is better)",
    "deletion": "deletion\n(lower is better)",
    "insertion": "insertion\n(higher is better)",
}
_ORDERS = {
    "positive": "most relevant first", "negative": "least relevant first", "random": "random order",
    "deletion": "deletion", "random_deletion": "deletion, random order",
    "insertion": "insertion", "random_insertion": "insertion, random order",
}  # fmt: skip
_CONTROLS = {
    "positive": "random", "negative": "random", "deletion": "random_deletion", "insertion": "random_insertion"
}  # fmt: skip
_AXES = {
    "accuracy": "accuracy", "probability": "probability of the class", "drop": "probability lost",
    "log_odds": "change of ln p (nats)",
}  # fmt: skip
_UNITS = ("accuracy", "probability")
_STYLES = ("-", "--", ":", "-.")


@styled
def faithfulness_curves_figure(
    results: Mapping[str, ClassPerturbationResult], quantity: str | None = None, orders: Sequence[str] | None = None
) -> Figure:
    """One panel an order, one curve a method, with the confidence interval of its mean over images.

    The control, where it was tested, is drawn in grey from the first result: it is the same for all methods
    tested with one seed on the same images.

    Args:
        results: of :class:`captum_ultra.perturbation.ClassPerturbationTest`, by the name of the method.
        quantity: "accuracy", "probability", "drop" or "log_odds"; by default the accuracy, or the
            probability where labels are not known.
        orders: the panels from left to right; by default what all results have, without the controls.

    Returns:
        A figure; :func:`captum_ultra.insights.figures.save_figure` writes it.

    Raises:
        ValueError: for no results, results without a common order, or an unknown quantity.

    Example:
        >>> import torch
        >>> from captum_ultra.perturbation.class_result import ClassPerturbationResult
        >>> result = ClassPerturbationResult(
        ...     (0.2, 0.8), ("positive", "negative"), torch.zeros(5, 2, 2).long(), torch.rand(5, 2, 2).log(),
        ...     torch.zeros(5).long(), torch.zeros(5), torch.zeros(5).long(),
        ... )
        >>> figure = faithfulness_curves_figure({"GAE": result, "rollout": result})
        >>> [axes.get_xlabel() for axes in figure.axes]
        ['share of pixels changed', 'share of pixels changed']
    """
    if not results:
        raise ValueError("results is empty: give at least one method's result")
    first = next(iter(results.values()))
    if orders is None:
        shared = [order for order in first.orders if all(order in each.orders for each in results.values())]
        orders = [order for order in shared if not order.startswith("random")] or shared
    if not orders:
        raise ValueError("the results have no order in common: there is no panel to draw")
    if quantity is None:
        quantity = "probability" if any(each.labels is None for each in results.values()) else "accuracy"
    colors = label_colors(len(results)) / 255
    shade = _SHADE if len(results) <= _FEW else _SHADE / 2
    figure, panels = _figure(len(orders))
    for axes, order in zip(panels, orders, strict=True):
        control = _CONTROLS.get(order)
        if control in first.orders:
            _draw(axes, first.curve(quantity, control), _GREY, "--", "random order")
        for number, (name, result) in enumerate(results.items()):
            style = _STYLES[number // 8 % len(_STYLES)]  # eight colours are told apart by everybody
            _draw(axes, result.curve(quantity, order), tuple(colors[number % 8]), style, name, shade)
        _finish(axes, quantity)
        axes.set_title(_TITLES.get(order, _ORDERS.get(order, order)) if quantity in _UNITS else _ORDERS[order])
    panels[0].set_ylabel(_AXES[quantity])
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 2 * len(panels)), frameon=False)
    return figure


@styled
def orders_figure(result: ClassPerturbationResult, quantity: str | None = None) -> Figure:
    """One panel with a curve an order, and the confidence interval of its mean over images.

    Args:
        result: of :class:`captum_ultra.perturbation.ClassPerturbationTest`.
        quantity: as in :func:`faithfulness_curves_figure`.

    Returns:
        A figure; :func:`captum_ultra.insights.figures.save_figure` writes it.

    Raises:
        ValueError: for an unknown quantity, or the accuracy without labels.
    """
    if quantity is None:
        quantity = "probability" if result.labels is None else "accuracy"
    figure, (axes,) = _figure(1)
    colors = iter(label_colors(8)[[5, 0, 2, 3]] / 255)
    for order in result.orders:
        random = order.startswith("random")
        style = ":" if order == "random_insertion" else "--" if random else "-"
        _draw(axes, result.curve(quantity, order), _GREY if random else tuple(next(colors)), style, _ORDERS[order])
    _finish(axes, quantity)
    axes.set_ylabel(_AXES[quantity])
    axes.legend(frameon=False)
    return figure


@styled
def curve_axes(
    steps: Sequence[float], mean: Tensor, low: Tensor, high: Tensor, quantity: str, axes: Axes | None = None
) -> tuple[Figure, Axes]:
    """One curve with its interval, for ``plot`` of the metrics.

    Args:
        steps: S shares of the pixels.
        mean: [S].
        low: lower end of the interval [S]; not drawn where it is NaN.
        high: upper end of the interval [S].
        quantity: "accuracy", "probability", "drop" or "log_odds".
        axes: to draw into; new ones when None.

    Returns:
        The figure and its axes.
    """
    from captum_ultra.perturbation.class_result import Curve

    if axes is None:
        _, (axes,) = _figure(1)
    colour = tuple(label_colors(1)[0] / 255)
    _draw(axes, Curve(tuple(steps), mean.cpu(), low.cpu(), high.cpu()), colour, "-", _AXES[quantity])
    _finish(axes, quantity)
    axes.set_ylabel(_AXES[quantity])
    return cast("Figure", axes.figure), axes


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.4 + 2.9 * panels, 2.9), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False, sharey=True)[0])


def _draw(
    axes: Axes, curve: Curve, color: tuple[float, ...], style: str, label: str, shade: float = _SHADE
) -> None:  # fmt: skip
    axes.plot(curve.steps, curve.mean.tolist(), color=color, linestyle=style, linewidth=1.3, label=label)
    if not bool(curve.low.isnan().any()):
        axes.fill_between(curve.steps, curve.low.tolist(), curve.high.tolist(), color=color, alpha=shade, linewidth=0)


def _finish(axes: Axes, quantity: str) -> None:
    axes.set_xlabel("share of pixels changed")
    axes.grid(linewidth=0.4, alpha=0.5)
    if quantity in _UNITS:
        axes.set_ylim(-0.02, 1.02)
