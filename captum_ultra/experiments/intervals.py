"""Means over scenes with their confidence intervals, always from the same draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Interval", "bootstrap"]

_DRAWS = 2000


@dataclass(frozen=True)
class Interval:
    """A mean and both ends of its confidence interval; the ends are NaN for a single scene."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(values: Tensor, confidence: float = 0.95) -> Interval:
    """The mean of values [N], one a scene, and its percentile interval over scenes drawn with replacement.

    Args:
        values: float64 [N].
        confidence: of the interval.

    Raises:
        ValueError: without values, or with some that are not finite.

    Example:
        >>> print(bootstrap(torch.tensor([0.5, 0.7, 0.6, 0.6], dtype=torch.float64)))
        0.600 [0.525, 0.675]
    """
    if values.dim() != 1 or not len(values) or not bool(values.isfinite().all()):
        raise ValueError(f"values must be [N], finite, one a scene, got {values.tolist()}")
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, float("nan"), float("nan"))
    drawn = torch.randint(len(values), (_DRAWS, len(values)), generator=torch.Generator().manual_seed(0))
    tail = (1 - confidence) / 2
    ends = torch.quantile(values[drawn].mean(1), torch.tensor([tail, 1 - tail], dtype=values.dtype))
    return Interval(mean, float(ends[0]), float(ends[1]))
