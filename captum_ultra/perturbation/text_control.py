"""The control: what removing as many tokens in random order does, and how well that is known."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["RandomControl", "check_control", "random_orders", "summarise_control"]

_RESAMPLES = 10_000


@dataclass(frozen=True)
class RandomControl:
    """The measure under random orders of the tokens, with a confidence interval of its mean.

    Attributes:
        curves: [R, K], one for each random order; float64.
        curve: [K], their mean.
        interval: [2, K], lower and upper end of the confidence interval of ``curve``.
        mean: the mean of ``curve`` over k.
        mean_interval: [2], the confidence interval of ``mean``.
        confidence: of both intervals, between 0 and 1.
    """

    curves: Tensor
    curve: Tensor
    interval: Tensor
    mean: float
    mean_interval: Tensor
    confidence: float


def check_control(orders: int, seed: int | torch.Generator, confidence: float) -> torch.Generator:
    """The generator to draw from.

    Args:
        orders: number of random orders.
        seed: an int, or a generator on the CPU (which moves on).
        confidence: of the interval.

    Raises:
        ValueError: for fewer than two orders, or a confidence outside (0, 1).
        TypeError: for a seed that is neither.
    """
    if isinstance(orders, bool) or not isinstance(orders, int) or orders < 2:
        raise ValueError(f"random_orders must be at least 2: the control's interval needs them; got {orders!r}")
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1 (0.95 for 95 %), got {confidence}")
    if isinstance(seed, torch.Generator):
        if seed.device.type != "cpu":
            raise ValueError(
                f"seed: orders are drawn on the CPU, so that they are the same everywhere; got {seed.device}"
            )
        return seed
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise TypeError(f"seed must be an int or a torch.Generator, got {type(seed).__name__}")
    return torch.Generator().manual_seed(seed)


def random_orders(orders: int, sources: int, generator: torch.Generator) -> Tensor:
    """Orders [R, S] of S tokens, uniform and independent.

    Args:
        orders: R.
        sources: S.
        generator: moves on.

    Example:
        >>> random_orders(2, 3, torch.Generator().manual_seed(0)).sort().values
        tensor([[0, 1, 2], [0, 1, 2]])
    """
    return torch.stack([torch.randperm(sources, generator=generator) for _ in range(orders)])


def summarise_control(curves: Tensor, confidence: float, generator: torch.Generator) -> RandomControl:
    """Mean and percentile bootstrap interval of the mean, over random orders.

    10,000 resamples of R - 1 orders out of R: with R - 1 the variance of the resampled means is the
    unbiased s^2 / R, where resamples of R make the interval of few orders too narrow.

    Args:
        curves: [R, K], float64.
        confidence: of the intervals, between 0 and 1.
        generator: moves on.

    Source:
        Hesterberg, "What Teachers Should Know About the Bootstrap" (2015), section 3.2.

    Example:
        >>> control = summarise_control(torch.tensor([[1.0], [3.0]]).double(), 0.95, torch.Generator().manual_seed(0))
        >>> control.mean, control.mean_interval
        (2.0, tensor([1., 3.], dtype=torch.float64))
    """
    orders = len(curves)
    drawn = torch.randint(orders, (_RESAMPLES, orders - 1), generator=generator)
    weights = torch.zeros(_RESAMPLES, orders, dtype=curves.dtype)
    weights.scatter_add_(1, drawn, torch.full_like(drawn, 1, dtype=curves.dtype)).div_(orders - 1)
    columns = torch.cat([curves, curves.mean(1, keepdim=True)], dim=1)  # the mean over k is a column of its own
    ends = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=curves.dtype)
    interval = (weights @ columns).quantile(ends, dim=0)
    curve = curves.mean(0)
    return RandomControl(curves, curve, interval[:, :-1], curve.mean().item(), interval[:, -1], confidence)
