"""How high the positives stand in a ranking: average precision, and whether the first is one."""

from __future__ import annotations

from torch import Tensor

__all__ = ["average_precision", "top_one"]


def average_precision(scores: Tensor, positive: Tensor) -> Tensor:
    """The mean, over the positives, of the share of positives among all that score at least as high.

    Args:
        scores: float [..., N], one ranking a row; N x N comparisons are made.
        positive: bool [..., N], same shape.

    Returns:
        float64 [...], in (0, 1]. A random ranking has about the share of positives.

    Raises:
        ValueError: if the shapes differ, or a row has no positive.

    Source:
        The sum over thresholds of precision times the step of recall, not interpolated, as in scikit-learn.

    Example:
        >>> import torch
        >>> average_precision(torch.tensor([0.9, 0.2, 0.4]), torch.tensor([True, True, False]))
        tensor(0.8333, dtype=torch.float64)
    """
    _check(scores, positive)
    at_least = scores.unsqueeze(-2) >= scores.unsqueeze(-1)
    precision = (at_least & positive.unsqueeze(-2)).sum(-1).double() / at_least.sum(-1)
    return (precision * positive).sum(-1) / positive.sum(-1)


def top_one(scores: Tensor, positive: Tensor) -> Tensor:
    """The chance that the highest score is a positive's, one of equal scores being drawn at random.

    Args:
        scores: float [..., N].
        positive: bool [..., N], same shape.

    Returns:
        float64 [...], from 0 to 1.

    Raises:
        ValueError: as :func:`average_precision` does.

    Example:
        >>> import torch
        >>> top_one(torch.tensor([0.5, 0.5, 0.1]), torch.tensor([True, False, True]))
        tensor(0.5000, dtype=torch.float64)
    """
    _check(scores, positive)
    highest = scores == scores.amax(-1, keepdim=True)
    return (highest & positive).sum(-1).double() / highest.sum(-1)


def _check(scores: Tensor, positive: Tensor) -> None:
    if scores.shape != positive.shape:
        raise ValueError(f"scores {list(scores.shape)} and positive {list(positive.shape)} must have one shape")
    if not bool(positive.any(-1).all()):
        raise ValueError("a row has no positive; its average precision is not defined")
    if bool(scores.isnan().any()):
        raise ValueError("a score is not a number; no ranking follows from it")
