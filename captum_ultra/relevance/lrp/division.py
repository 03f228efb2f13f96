"""Division that the rules share: a share of nothing is nothing."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["safe_divide"]

EPSILON = 1e-9


def safe_divide(numerator: Tensor, denominator: Tensor) -> Tensor:
    """``numerator / denominator``, pushed away from zero by 1e-9, and zero where the denominator is zero.

    Args:
        numerator: relevance, or any tensor that broadcasts with the denominator.
        denominator: what the relevance is shared out by.

    Returns:
        Finite wherever both are, in the shape that they broadcast to.

    Example:
        >>> safe_divide(torch.tensor([1.0, 1.0, 1.0]), torch.tensor([2.0, -2.0, 0.0]))
        tensor([ 0.5000, -0.5000,  0.0000])
    """
    away = torch.add(denominator, denominator.sign(), alpha=EPSILON)
    return numerator / away.masked_fill_(denominator == 0, torch.inf)
