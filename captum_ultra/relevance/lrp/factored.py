"""Values whose dependence on a signal is linear: whatever they are, their gradient is a given factor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["factored", "two_factored"]


def factored(x: Tensor, value: Tensor, factor: Tensor | float) -> Tensor:
    """``value``, as if it were ``factor * x``.

    Example:
        >>> x = torch.tensor([2.0, 3.0], requires_grad=True)
        >>> torch.autograd.grad(factored(x, x.detach() ** 2, 0.5).sum(), x)
        (tensor([0.5000, 0.5000]),)
    """
    return _Factored.apply(x, None, value, factor, None)


def two_factored(value: Tensor, x: Tensor, u: Tensor, of_x: Tensor, of_u: Tensor) -> Tensor:
    """``value``, as if it were ``of_x * x + of_u * u``; x and u may be broadcast."""
    return _Factored.apply(x, u, value.detach(), of_x, of_u)


class _Factored(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, u: Tensor | None, value: Tensor, of_x: Any, of_u: Any) -> Tensor:
        ctx.factors = [of_x] if u is None else [of_x, of_u]  # constants; no part of the graph
        ctx.shapes = [each.shape for each in (x, u) if each is not None]
        return value.clone()  # no view, which the model could not change in place

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (gradient,) = grads
        found = [(gradient * each).to(gradient.dtype) for each in ctx.factors]
        found = [_summed_to(each, shape) for each, shape in zip(found, ctx.shapes, strict=True)]
        return found[0], found[1] if len(found) > 1 else None, None, None, None


def _summed_to(gradient: Tensor, shape: torch.Size) -> Tensor:
    """A gradient of something that was broadcast, in its own shape; no ``sum_to_size``, which ``vmap`` lacks."""
    if gradient.shape == shape:
        return gradient
    lead = gradient.dim() - len(shape)
    gradient = gradient.sum(tuple(range(lead))) if lead else gradient
    short = tuple(axis for axis, size in enumerate(shape) if size == 1 and gradient.shape[axis] != 1)
    return gradient.sum(short, keepdim=True) if short else gradient
