"""What a faithfulness test found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from captum_ultra.perturbation.text_control import RandomControl

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FaithfulnessCurve"]


@dataclass(frozen=True)
class FaithfulnessCurve:
    """Comprehensiveness or sufficiency over k, beside the same for tokens in random order.

    Of one score vector [S] the curve is [K]; of several, [M, K], and all share the control.

    Attributes:
        metric: "comprehensiveness" (higher is better) or "sufficiency" (lower is better).
        measure: "log_probability" (nats a token) or "probability".
        replacement: id that took the place of removed tokens; None if they were deleted.
        k: the K percentages.
        top: the K numbers of tokens that they come to.
        sources: S, the number of context tokens.
        unperturbed: m(x), the measure of the whole text.
        curve: [K] or [M, K], float64: m(x) minus the measure of the changed text.
        control: the same for random orders, with its confidence interval.
        names: of the M score vectors, where given.
    """

    metric: str
    measure: str
    replacement: int | None
    k: tuple[float, ...]
    top: tuple[int, ...]
    sources: int
    unperturbed: float
    curve: Tensor
    control: RandomControl
    names: tuple[str, ...] = ()

    @property
    def mean(self) -> Tensor:
        """[] or [M]: the mean of the curve over k (ERASER's AOPC)."""
        return self.curve.mean(-1)

    @property
    def difference(self) -> Tensor:
        """[K] or [M, K]: the curve minus the mean of the control."""
        return self.curve - self.control.curve

    @property
    def mean_difference(self) -> Tensor:
        """[] or [M]: the curve's mean minus the control's."""
        return self.mean - self.control.mean

    @property
    def p_value(self) -> Tensor:
        """[] or [M]: how often a random order does at least as well on the mean over k.

        (1 + number of such orders) / (1 + R), the one-sided permutation test; never below 1 / (1 + R).
        """
        random, ours = self.control.curves.mean(1), self.mean[..., None]
        as_good = random >= ours if self.metric == "comprehensiveness" else random <= ours
        return (1 + as_good.sum(-1).double()) / (1 + len(random))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and strings, ready for ``json.dump``."""
        return {
            "metric": self.metric,
            "measure": self.measure,
            "replacement": self.replacement,
            "k": list(self.k),
            "top": list(self.top),
            "sources": self.sources,
            "unperturbed": self.unperturbed,
            "names": list(self.names),
            "curve": self.curve.tolist(),
            "mean": self.mean.tolist(),
            "difference": self.difference.tolist(),
            "mean_difference": self.mean_difference.tolist(),
            "p_value": self.p_value.tolist(),
            "control": {
                "orders": len(self.control.curves),
                "confidence": self.control.confidence,
                "curve": self.control.curve.tolist(),
                "interval": self.control.interval.tolist(),
                "mean": self.control.mean,
                "mean_interval": self.control.mean_interval.tolist(),
                "curves": self.control.curves.tolist(),
            },
        }

    def figure(self) -> Figure:
        """The curve over k with the control's mean and interval; see :func:`faithfulness_figure`."""
        from captum_ultra.insights.faithfulness import faithfulness_figure

        return faithfulness_figure([self])
