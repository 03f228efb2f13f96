"""Figures of faithfulness tests: curves over k beside the control."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from captum_ultra.figures.panels import styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from captum_ultra.perturbation.text_result import FaithfulnessCurve

__all__ = ["faithfulness_figure"]

_BETTER = {"comprehensiveness": "higher is better", "sufficiency": "lower is better"}
_LOST = {"log_probability": "log-probability lost (nats per token)", "probability": "probability lost"}
_CONTROL = "0.45"  # grey: the control is no competitor


@styled
def faithfulness_figure(results: Sequence[FaithfulnessCurve]) -> Figure:
    """One panel a result: its curves over k, and the control's mean with its confidence interval.

    Single random orders are drawn thinly behind it: the interval says how well their mean is known,
    not how far one of them may lie from it.

    Args:
        results: of :func:`comprehensiveness` and :func:`sufficiency`, in the order of the panels.

    Returns:
        A figure; `save_figure` writes it.

    Raises:
        ValueError: for no result at all.

    Example:
        >>> from captum_ultra.perturbation.text_control import summarise_control
        >>> from captum_ultra.perturbation import FaithfulnessCurve
        >>> import torch
        >>> control = summarise_control(torch.rand(5, 2).double(), 0.95, torch.Generator())
        >>> curve = torch.tensor([0.5, 1.5]).double()
        >>> result = FaithfulnessCurve(
        ...     "sufficiency", "probability", None, (10, 50), (1, 5), 10, 0.9, curve, control
        ... )
        >>> faithfulness_figure([result]).axes[0].get_title()
        'sufficiency (lower is better)'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if not results:
        raise ValueError("results is empty: give at least one result of comprehensiveness or sufficiency.")
    figure = Figure(figsize=(3.4 * len(results), 3.0), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, result in zip(figure.subplots(1, len(results), squeeze=False)[0], results, strict=True):
        _draw(axes, result)
    entries = {  # panels of the same methods share their entries
        label: handle for axes in figure.axes for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    figure.legend(
        list(entries.values()), list(entries), loc="outside lower center", ncols=2 * len(results), frameon=False
    )
    return figure


def _draw(axes: Axes, result: FaithfulnessCurve) -> None:
    control, k = result.control, list(result.k)
    axes.plot(k, control.curves.T, color=_CONTROL, lw=0.4, alpha=0.35)
    low, high = control.interval.tolist()
    sure, mean = f"{control.confidence:.0%} interval of the mean", f"mean of {len(control.curves)} random orders"
    axes.fill_between(k, low, high, color=_CONTROL, alpha=0.35, lw=0, label=sure)
    axes.plot(k, control.curve.tolist(), color=_CONTROL, ls="--", lw=1.2, label=mean)
    curves = result.curve.reshape(-1, len(k)).tolist()
    names = result.names or ([""] * len(curves) if len(curves) > 1 else ["explanation"])
    for curve, name in zip(curves, names, strict=True):
        axes.plot(k, curve, marker="o", ms=3, lw=1.4, label=name or None)
    axes.set_xscale("log")
    axes.set_xticks(k, [f"{each:g}" for each in k])
    axes.minorticks_off()
    stays = "kept" if result.metric == "sufficiency" else "removed"
    axes.set_xlabel(f"top k % of {result.sources} context tokens {stays}")
    axes.set_ylabel(_LOST[result.measure])
    axes.set_title(f"{result.metric} ({_BETTER[result.metric]})")
