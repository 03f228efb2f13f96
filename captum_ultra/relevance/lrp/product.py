"""Products of two signals: matrix products of activations, and element by element."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from captum_ultra.relevance.lrp.division import safe_divide

__all__ = ["halved_shares", "proportional_shares"]


def halved_shares(
    function: Callable[[Tensor, Tensor], Tensor], relevance: Tensor, left: Tensor, right: Tensor
) -> tuple[Tensor, Tensor]:
    """``X * grad(R / Z)`` for both factors of ``Z = f(X, Y)``, halved (Chefer et al. CVPR 2021, section 3.2).

    Each factor's shares sum to all the relevance, so each gets half of it.

    Args:
        function: a product of the two: matmul, einsum, or element by element.
        relevance: of the product.
        left, right: the factors.

    Returns:
        The relevance of each factor, in its shape.

    Example:
        >>> x, y = torch.tensor([[1.0, 3.0]]), torch.tensor([[1.0], [1.0]])
        >>> halved_shares(torch.matmul, torch.tensor([[1.0]]), x, y)
        (tensor([[0.1250, 0.3750]]), tensor([[0.1250],
            [0.3750]]))
    """
    with torch.enable_grad():
        factors = [each.detach().requires_grad_() for each in (left, right)]
        product = function(*factors)
        share = safe_divide(relevance, product.detach())
        d_left, d_right = torch.autograd.grad(product, factors, share)
    return left * d_left / 2, right * d_right / 2


def proportional_shares(function: Callable[[Tensor], Tensor], relevance: Tensor, x: Tensor) -> tuple[Tensor]:
    """``x * grad(R / Z)`` for a sum or mean ``Z`` of entries of x: the share of each entry in its sum.

    Args:
        function: a sum, a mean, or another pooling that is linear.
        relevance: of the result.
        x: what is pooled.

    Returns:
        The relevance of x, in its shape.

    Example:
        >>> proportional_shares(lambda x: x.mean(1), torch.tensor([1.0]), torch.tensor([[1.0, 3.0]]))
        (tensor([[0.2500, 0.7500]]),)
    """
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        pooled = function(leaf)
        (gradient,) = torch.autograd.grad(pooled, leaf, safe_divide(relevance, pooled.detach()))
    return (x * gradient,)
