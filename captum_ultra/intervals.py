"""Means over images with their confidence intervals, always from the same draws."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Interval", "bootstrap", "bootstrap_of", "interval_ends", "resampled_means"]

_DRAWS = 2000
_DRAWS_AT_ONCE = 100


@dataclass(frozen=True)
class Interval:
    """A mean and both ends of its confidence interval; the ends are NaN for a single image."""

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(values: Tensor, confidence: float = 0.95) -> Interval:
    """The mean of values [N], one an image, and its percentile interval over images drawn with replacement.

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
        raise ValueError(f"values must be [N], finite, one an image, got {values.tolist()}")
    mean = float(values.mean())
    if len(values) == 1:
        return Interval(mean, float("nan"), float("nan"))
    means = torch.cat([values[drawn].mean(1) for drawn in _drawn(len(values))])
    low, high = interval_ends(means, confidence).tolist()
    return Interval(mean, low, high)


def bootstrap_of(
    values: Tensor, statistic: Callable[[Tensor], Tensor] = lambda means: means, confidence: float = 0.95
) -> tuple[Tensor, Tensor, Tensor]:
    """A statistic of the means of values [N, ...], and both ends of its percentile interval over images.

    Args:
        values: float64 [N, ...], one row an image.
        statistic: of means [R, ...], one result a row; the means themselves by default.
        confidence: of the intervals.

    Returns:
        The statistic of all images, and both ends of its interval, which are NaN for a single image.

    Raises:
        ValueError: without values, or with some that are not finite.

    Example:
        >>> [each.tolist() for each in bootstrap_of(torch.tensor([[1.0, 5.0], [1.0, 5.0]]).double())]
        [[1.0, 5.0], [1.0, 5.0], [1.0, 5.0]]
    """
    if not values.dim() or not len(values) or not bool(values.isfinite().all()):
        raise ValueError(f"values must be [N, ...], finite, one row an image, got shape {list(values.shape)}")
    values = values.double().cpu()
    whole = statistic(values.mean(0, keepdim=True))[0]
    if len(values) == 1:
        unknown = torch.full_like(whole, torch.nan)
        return whole, unknown, unknown
    low, high = interval_ends(statistic(resampled_means(values)), confidence)
    return whole, low, high


def resampled_means(values: Tensor) -> Tensor:
    """Means [2000, ...] of values [N, ...] over images drawn with replacement, always the same ones for one N."""
    count, flat = len(values), values.double().cpu().flatten(1)
    means = []
    for drawn in _drawn(count):
        weights = torch.zeros(drawn.shape, dtype=torch.float64)
        means.append(weights.scatter_add_(1, drawn, torch.full_like(weights, 1 / count)) @ flat)
    return torch.cat(means).view(-1, *values.shape[1:])


def _drawn(count: int) -> Iterator[Tensor]:
    """The images of all draws, some draws [R, N] at a time: memory stays small for large data sets."""
    generator = torch.Generator().manual_seed(0)
    for part in torch.arange(_DRAWS).split(_DRAWS_AT_ONCE):
        yield torch.randint(count, (len(part), count), generator=generator)


def interval_ends(draws: Tensor, confidence: float = 0.95) -> Tensor:
    """Lower and upper end [2, ...] of the middle of draws [R, ...].

    Raises:
        ValueError: for a confidence outside 0..1.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must lie between 0 and 1")
    tail = (1 - confidence) / 2
    return torch.quantile(draws, torch.tensor([tail, 1 - tail], dtype=draws.dtype), dim=0)
