"""Figures of perturbation tests of latent tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from captum_ultra.figures.panels import styled

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from captum_ultra.perturbation.latent_result import LatentPerturbationResult

__all__ = ["perturbation_figure"]

# Okabe and Ito's colours, which colour-blind readers tell apart; grey, as the control is no competitor.
_LOOK = {"positive": ("#d55e00", "o"), "negative": ("#0072b2", "s"), "random": ("0.5", "^")}
_LABEL = {"positive": "most relevant first", "negative": "least relevant first", "random": "random order"}


@styled
def perturbation_figure(results: Sequence[LatentPerturbationResult], titles: Sequence[str] | None = None) -> Figure:
    """One panel a result: the distance of the latents over the share of perturbed patches, by order.

    Bars are the confidence interval of each mean; that of the area between the two curves is written below the
    title, where there are several fractions.

    Args:
        results: of :class:`captum_ultra.perturbation.latent_test.LatentPerturbationTest`.
        titles: one a result.

    Returns:
        A figure; `save_figure` writes it.

    Raises:
        ValueError: for no result, or another number of titles.

    Example:
        >>> import torch
        >>> from captum_ultra.perturbation.latent_result import LatentPerturbationResult
        >>> result = LatentPerturbationResult((0.2, 0.6), torch.rand(5, 3, 2).double())
        >>> perturbation_figure([result], ["layer 6"]).axes[0].get_xlabel()
        'share of perturbed patches'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from captum_ultra.perturbation.latent_result import ORDERS

    if not results:
        raise ValueError("results is empty: give at least one")
    titles = [""] * len(results) if titles is None else list(titles)
    if len(titles) != len(results):
        raise ValueError(f"{len(titles)} titles were given for {len(results)} results")
    figure = Figure(figsize=(2.8 * len(results) + 0.3, 2.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, result, title in zip(figure.subplots(1, len(results), squeeze=False)[0], results, titles, strict=True):
        for index, order in enumerate(ORDERS):
            _draw(axes, result, index, order)
        axes.set_title("\n".join(filter(None, (title, _area(result)))))
        axes.set_xlabel("share of perturbed patches")
        axes.set_ylim(bottom=0)
    figure.axes[0].set_ylabel("distance of the latent token")
    figure.axes[0].legend(frameon=False)
    return figure


def _draw(axes: Axes, result: LatentPerturbationResult, index: int, order: str) -> None:
    mean, (low, high) = result.curve[index], result.interval[:, index]
    colour, marker = _LOOK[order]
    bars = None if low.isnan().any() else [(mean - low).clamp_min(0).tolist(), (high - mean).clamp_min(0).tolist()]
    axes.errorbar(
        result.fractions, mean.tolist(), bars, color=colour, marker=marker, markersize=3.5, linewidth=1.2,
        capsize=2, label=_LABEL[order],
    )  # fmt: skip


def _area(result: LatentPerturbationResult) -> str:
    if result.area is None or result.area_interval is None:
        return ""
    low, high = result.area_interval.tolist()
    interval = "" if low != low else f" [{low:.2f}, {high:.2f}]"
    return f"area between the curves {result.area:.2f}{interval}"
