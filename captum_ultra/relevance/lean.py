"""Activations that keep their derivative: what they cost a target is one product of numbers, however they are made.

Values and gradients are those of torch. Half precision, and what is changed in place, go their own way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["activation", "called"]

_ACTIVATIONS: set[Any] = {F.gelu, F.silu, F.relu, torch.relu, F.elu, F.softplus, F.mish, F.hardswish, F.leaky_relu}


def called(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The result of a torch function; of an activation, with its derivative kept."""
    x = args[0] if args else None
    keeps = function in _ACTIVATIONS and isinstance(x, Tensor) and x.requires_grad and x.dtype.itemsize >= 4
    return activation(function, *args, **kwargs) if keeps else function(*args, **kwargs)


def activation(function: Callable[..., Tensor], x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """``function(x, ...)`` of every entry by itself, with its derivative in place of what its backward pass needs.

    Example:
        >>> x = torch.tensor([-1.0, 2.0], requires_grad=True)
        >>> torch.autograd.grad(activation(F.relu, x).sum(), x)
        (tensor([0., 1.]),)
    """
    if kwargs.get("inplace") or any(each is True for each in args):
        return function(x, *args, **kwargs)
    kept: Tensor = _Kept.apply(x, function, args, kwargs)
    return kept


class _Kept(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[..., Tensor], args: Any, kwargs: Any) -> Tensor:
        ctx.set_materialize_grads(False)  # a gradient that never arrives is not one that is zero
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            value = function(leaf, *args, **kwargs)
        (ctx.derivative,) = torch.autograd.grad(value, leaf, torch.ones_like(value))
        return value.detach()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return None if grads[0] is None else grads[0] * ctx.derivative, None, None, None
