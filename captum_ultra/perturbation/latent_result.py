"""What a perturbation test of latent tokens found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_ultra.intervals import interval_ends, resampled_means

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["ORDERS", "LatentPerturbationResult"]

ORDERS = ("positive", "negative", "random")


@dataclass(frozen=True)
class LatentPerturbationResult:
    """Distances ||z_i - z~_i||_2 of latent tokens, by the order in which patches were perturbed.

    Attributes:
        fractions: F shares of the other patches that were perturbed, increasing.
        distances: [N, 3, F], float64: mean over the tokens of image n, by order ("positive": most relevant
            first, "negative": least relevant first, "random") and fraction.
        confidence: of the intervals, which are taken over images.
        settings: what was tested, in plain numbers and strings.

    Example:
        >>> distances = torch.tensor([[[2.0], [1.0], [1.5]], [[4.0], [2.0], [2.5]]]).double()
        >>> result = LatentPerturbationResult((0.5,), distances)
        >>> result.curve.flatten().tolist(), result.difference.tolist()
        ([3.0, 1.5, 2.0], [1.5])
    """

    fractions: tuple[float, ...]
    distances: Tensor
    confidence: float = 0.95
    settings: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        expected = (len(ORDERS), len(self.fractions))
        if self.distances.dim() != 3 or self.distances.shape[1:] != expected or not len(self.distances):
            raise ValueError(f"distances must be [N, {expected[0]}, {expected[1]}], got {list(self.distances.shape)}")
        if not 0 < self.confidence < 1:
            raise ValueError(f"confidence is {self.confidence}; it must lie between 0 and 1")

    @property
    def curve(self) -> Tensor:
        """[3, F]: mean over images, by order."""
        return self.distances.mean(0)

    @property
    def interval(self) -> Tensor:
        """[2, 3, F]: lower and upper end of the curve's confidence interval."""
        return self._quantiles(self._resampled)

    @property
    def difference(self) -> Tensor:
        """[F]: positive minus negative; above zero where relevance says what matters to the token."""
        return self.curve[0] - self.curve[1]

    @property
    def difference_interval(self) -> Tensor:
        """[2, F]: of the difference, which is taken within images, so it is narrower than the curves suggest."""
        return self._quantiles(self._resampled[:, 0] - self._resampled[:, 1])

    @property
    def area(self) -> float | None:
        """The area between the positive and the negative curve, by trapezoid; None for fewer than two fractions."""
        return self._area(self.difference[None]).item() if len(self.fractions) > 1 else None

    @property
    def area_interval(self) -> Tensor | None:
        """[2]: of the area."""
        if len(self.fractions) < 2:
            return None
        return self._quantiles(self._area(self._resampled[:, 0] - self._resampled[:, 1]))

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and strings, ready for ``json.dump``; NaN becomes None."""
        area_interval = self.area_interval
        return {
            "settings": self.settings or {},
            "images": len(self.distances),
            "confidence": self.confidence,
            "fractions": list(self.fractions),
            "orders": {
                order: {"mean": self.curve[i].tolist(), "interval": _plain(self.interval[:, i])}
                for i, order in enumerate(ORDERS)
            },
            "difference": {"mean": self.difference.tolist(), "interval": _plain(self.difference_interval)},
            "area": self.area,
            "area_interval": None if area_interval is None else _plain(area_interval),
            "distances": self.distances.tolist(),
        }

    def figure(self) -> Figure:
        """The three curves with their intervals; see :func:`captum_ultra.insights.perturbation.perturbation_figure`."""
        from captum_ultra.insights.perturbation import perturbation_figure

        return perturbation_figure([self])

    @cached_property
    def _resampled(self) -> Tensor:
        """[R, 3, F]: means over images drawn with replacement, always the same ones."""
        return resampled_means(self.distances)

    def _quantiles(self, resampled: Tensor) -> Tensor:
        """Lower and upper end; one image alone says nothing about others, so its interval is NaN."""
        ends = interval_ends(resampled, self.confidence)
        return ends if len(self.distances) > 1 else torch.full_like(ends, float("nan"))

    def _area(self, difference: Tensor) -> Tensor:
        """Trapezoid over the fractions, [R, F] -> [R]."""
        return torch.trapezoid(difference, torch.tensor(self.fractions, dtype=difference.dtype), dim=-1)


def _plain(ends: Tensor) -> Any:
    return None if ends.isnan().any() else ends.tolist()
