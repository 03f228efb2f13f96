"""The area under the ROC curve of many maps at once."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["roc_auc"]


def roc_auc(scores: Tensor, positive: Tensor) -> Tensor:
    """The chance that a positive place scores above a negative one, ties counting one half.

    Args:
        scores: float [..., N], one map a row.
        positive: bool [..., N], same shape.

    Returns:
        float64 [...], from 0 to 1; one half is chance.

    Raises:
        ValueError: if the shapes differ, or a row is all positive or all negative.

    Source:
        Mann and Whitney (1947): U = (rank sum of the positives) - p (p + 1) / 2, divided by p q.

    Example:
        >>> roc_auc(torch.tensor([0.1, 0.4, 0.3, 0.4]), torch.tensor([False, True, False, False]))
        tensor(0.8333, dtype=torch.float64)
    """
    if scores.shape != positive.shape:
        raise ValueError(f"scores {list(scores.shape)} and positive {list(positive.shape)} must have one shape")
    p = positive.sum(-1).double()
    q = positive.shape[-1] - p
    if not bool((p * q > 0).all()):
        raise ValueError("a row has only positives or only negatives; its ROC curve is not defined")
    scores = scores.contiguous()
    ordered = scores.sort(-1).values
    below = torch.searchsorted(ordered, scores)
    not_above = torch.searchsorted(ordered, scores, right=True)
    ranks = (below + not_above + 1).double() / 2
    return ((ranks * positive).sum(-1) - p * (p + 1) / 2) / (p * q)
