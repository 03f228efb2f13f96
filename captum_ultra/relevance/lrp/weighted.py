"""Linear maps with constant weights: fully connected layers, convolutions, products with a constant matrix.

A map f(x, w), linear in both, shares out the relevance of an output by what each input contributes to
it. A bias takes none, so that the sum over the inputs is the sum over the outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_ultra.relevance.lrp.division import safe_divide

__all__ = ["Bilinear", "bounded_shares", "weighted_shares"]

Bilinear = Callable[[Tensor, Tensor], Tensor]


def weighted_shares(
    function: Bilinear, weight: Tensor, relevance: Tensor, x: Tensor, *, apart: bool = False
) -> tuple[Tensor]:
    """The positive contributions ``x+ w+`` and ``x- w-`` over their sum (alpha = 1; Bach et al. 2015, eq. 60).

    Args:
        function: f(x, w), linear in both.
        weight: w, of any shape.
        relevance: of f(x, w).
        x: the input.
        apart: ``x+ w+`` over their own sum plus ``x- w-`` over theirs, as in the published baselines of Chefer et al.:
            each of them takes all relevance.

    Returns:
        The relevance of x, in its shape.

    Example:
        >>> import torch.nn.functional as F
        >>> x, w = torch.tensor([[1.0, 2.0, -1.0]]), torch.tensor([[1.0, -1.0, -3.0]])
        >>> weighted_shares(F.linear, w, torch.tensor([[1.0]]), x)    # contributions 1, -2, 3
        (tensor([[0.2500, 0.0000, 0.7500]]),)
    """
    weight = weight.to(x.dtype)
    signs = [(x.clamp(min=0), weight.clamp(min=0), 1), (x.clamp(max=0), weight.clamp(max=0), 1)]
    if apart:
        return (_shares(function, relevance, signs[:1]) + _shares(function, relevance, signs[1:]),)
    return (_shares(function, relevance, signs),)


def bounded_shares(function: Bilinear, weight: Tensor, relevance: Tensor, x: Tensor) -> tuple[Tensor]:
    """The z^B rule for pixels, which lie between a low and a high (Montavon et al. 2017, section 5.2).

    The shares are ``x w - low w+ - high w-`` over their sum. Low and high are the least and the largest
    value of each sample, so that one sample's relevance does not depend on the others.

    Args:
        function: f(x, w), linear in both, with the samples on the first axis.
        weight: w, of any shape.
        relevance: of f(x, w).
        x: the input [B, ...].

    Returns:
        The relevance of x, in its shape.

    Example:
        >>> import torch.nn.functional as F
        >>> x, w = torch.tensor([[0.0, 1.0, 0.5]]), torch.tensor([[1.0, 1.0, -2.0]])
        >>> bounded_shares(F.linear, w, torch.tensor([[1.0]]), x)    # shares 0, 1, 1 of 2
        (tensor([[0.0000, 0.5000, 0.5000]]),)
    """
    weight = weight.to(x.dtype)
    flat = x.flatten(1)
    edges = (-1,) + (1,) * (x.dim() - 1)
    low, high = flat.amin(1).view(edges).expand_as(x), flat.amax(1).view(edges).expand_as(x)
    terms = [(x, weight, 1), (low, weight.clamp(min=0), -1), (high, weight.clamp(max=0), -1)]
    return (_shares(function, relevance, terms),)


def _shares(function: Bilinear, relevance: Tensor, terms: Sequence[tuple[Tensor, Tensor, int]]) -> Tensor:
    """Relevance shared out by the contributions of ``z = sum of sign * f(x, w)`` over the terms (x, w, sign)."""
    with torch.enable_grad():
        parts = [part.detach().requires_grad_() for part, _, _ in terms]
        z = sum(sign * function(part, weight) for part, (_, weight, sign) in zip(parts, terms, strict=True))
        assert isinstance(z, Tensor)
        gradients = torch.autograd.grad(z, parts, safe_divide(relevance, z.detach()))
    found = torch.zeros_like(parts[0])
    for part, gradient in zip(parts, gradients, strict=True):
        found.addcmul_(part.detach(), gradient)
    return found.detach()
