"""Sums of two signals: residual connections."""

from __future__ import annotations

from torch import Tensor

from captum_ultra.relevance.lrp.division import safe_divide

__all__ = ["renormalised_shares"]


def renormalised_shares(relevance: Tensor, left: Tensor, right: Tensor, samples: int | None) -> tuple[Tensor, Tensor]:
    """The shares of two summands, weighed by the size of their total (Chefer et al. CVPR 2021, section 3.2).

    ``a = x R / (x + y)`` and ``b = y R / (x + y)`` may cancel in large numbers. Each is scaled so that
    their sums stand to each other as |sum a| to |sum b|, and add up to the relevance.

    The published code takes these sums over the whole batch, which makes the map of an image depend on the
    images beside it. Here they are taken for each sample.

    Args:
        relevance: of the sum.
        left, right: the summands; one may be broadcast.
        samples: the axis of the samples in the sum, None for one sample.

    Returns:
        The relevance of each summand, in its shape.

    Example:
        >>> import torch
        >>> x, y = torch.tensor([[3.0, 1.0]]), torch.tensor([[1.0, -2.0]])
        >>> a, b = renormalised_shares(torch.tensor([[1.0, 1.0]]), x, y, samples=0)   # a from 0.75 and -1
        >>> round(float(a.sum()), 2), round(float(b.sum()), 2)
        (0.2, 1.8)
    """
    share = safe_divide(relevance, left + right)
    others = [axis for axis in range(relevance.dim()) if axis != samples]
    parts = [left * share, right * share]
    totals = [_total(part, others) for part in parts]
    both = totals[0].abs() + totals[1].abs()
    whole = _total(relevance, others)
    scaled = [
        part * safe_divide(safe_divide(total.abs(), both) * whole, total)
        for part, total in zip(parts, totals, strict=True)
    ]
    return scaled[0].sum_to_size(left.shape), scaled[1].sum_to_size(right.shape)


def _total(part: Tensor, axes: list[int]) -> Tensor:
    return part.sum(axes, keepdim=True) if axes else part
