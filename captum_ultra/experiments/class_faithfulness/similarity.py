"""How alike two maps are: rank correlation and structural similarity."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.attr.presentation import min_max

__all__ = ["rank_correlation", "ranks", "structural_similarity"]

_WINDOW = 7  # places a side
_DARK, _FLAT = 0.01**2, 0.03**2  # the constants of the source, for values in 0..1


def ranks(values: Tensor) -> Tensor:
    """Ranks 1..n of values [n], float64; equal values share their mean rank.

    Example:
        >>> ranks(torch.tensor([0.3, 0.1, 0.3, 0.9])).tolist()
        [2.5, 1.0, 2.5, 4.0]
    """
    values = values.contiguous()
    ordered = values.sort().values
    first, last = torch.searchsorted(ordered, values), torch.searchsorted(ordered, values, right=True)
    return (first + last + 1).double() / 2


def rank_correlation(one: Tensor, other: Tensor) -> float:
    """Spearman's correlation of two maps of one shape [...], from -1 to 1; 0 where a map is constant.

    A constant map orders nothing, so that it has nothing in common with another.

    Raises:
        ValueError: for different shapes.

    Example:
        >>> rank_correlation(torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 9.0]))
        1.0
    """
    if one.shape != other.shape:
        raise ValueError(f"maps {list(one.shape)} and {list(other.shape)} must have one shape")
    a, b = (each - each.mean() for each in (ranks(one.flatten()), ranks(other.flatten())))
    size = float((a @ a) * (b @ b)) ** 0.5
    return max(-1.0, min(1.0, float(a @ b) / size)) if size else 0.0


def structural_similarity(one: Tensor, other: Tensor) -> float:
    """SSIM of two maps [H, W], each scaled to 0..1 first; the mean over all windows of 7 x 7 places.

    Raises:
        ValueError: for different shapes, or maps smaller than a window.

    Source:
        Wang, Bovik, Sheikh and Simoncelli, Image Quality Assessment: From Error Visibility to Structural Similarity
        (2004), eq. 13, with a uniform window and sample variances.

    Example:
        >>> structural_similarity(torch.eye(8), 3 * torch.eye(8) + 1)
        1.0
    """
    if one.shape != other.shape or one.dim() != 2 or min(one.shape) < _WINDOW:
        raise ValueError(f"maps {list(one.shape)} and {list(other.shape)} must have one shape, from 7 x 7 places on")
    a, b = (min_max(each.double()[None])[None] for each in (one, other))

    def mean(values: Tensor) -> Tensor:
        return F.avg_pool2d(values, _WINDOW, stride=1)

    unbiased = _WINDOW**2 / (_WINDOW**2 - 1)
    mean_a, mean_b = mean(a), mean(b)
    var_a, var_b = unbiased * (mean(a * a) - mean_a**2), unbiased * (mean(b * b) - mean_b**2)
    both = unbiased * (mean(a * b) - mean_a * mean_b)
    alike = (2 * mean_a * mean_b + _DARK) * (2 * both + _FLAT)
    return float((alike / ((mean_a**2 + mean_b**2 + _DARK) * (var_a + var_b + _FLAT))).mean())
