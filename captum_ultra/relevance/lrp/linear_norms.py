"""Normalisations whose scale is a constant in the graph, so that they are linear maps of their input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["LINEAR_NORMS"]


def layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5, *_: Any,
) -> Tensor:  # fmt: skip
    """``F.layer_norm`` with a detached standard deviation.

    Example:
        >>> x = torch.tensor([[1.0, 3.0]], requires_grad=True)
        >>> torch.autograd.grad(layer_norm(x, [2])[0, 0], x)     # 1/2 and -1/2; the ordinary gradient is zero
        (tensor([[ 0.5000, -0.5000]]),)
    """
    axes = tuple(range(-len(normalized_shape), 0))
    return _normalised(input, axes, eps, weight, bias, centred=True)


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """``F.rms_norm`` with a detached root mean square."""
    axes = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _normalised(input, axes, eps, weight, None, centred=False)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    *_: Any,
) -> Tensor:  # fmt: skip
    """``F.group_norm`` of [B, C, ...] with detached standard deviations."""
    grouped = input.reshape(len(input), num_groups, -1)
    normalised = _normalised(grouped, (-1,), eps, None, None, centred=True).view(input.shape)
    channels = (-1,) + (1,) * (input.dim() - 2)
    weight, bias = (None if each is None else each.view(channels) for each in (weight, bias))
    return _affine(normalised, weight, bias).to(input.dtype)


LINEAR_NORMS: dict[Any, Callable[..., Tensor]] = {
    F.layer_norm: layer_norm, torch.layer_norm: layer_norm, F.group_norm: group_norm, torch.group_norm: group_norm,
    F.rms_norm: rms_norm, torch.rms_norm: rms_norm,
}  # fmt: skip


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _normalised(
    x: Tensor, axes: tuple[int, ...], eps: float, weight: Tensor | None, bias: Tensor | None, *, centred: bool
) -> Tensor:
    """x, centred or not, over its root mean square; the values and, of the gradient, the factors are made once."""
    with torch.no_grad():
        wide = _wide(x)
        wide = wide - wide.mean(axes, keepdim=True) if centred else wide
        scale = (wide.square().mean(axes, keepdim=True) + eps).rsqrt()
    if any(each is not None and each.grad_fn is not None for each in (weight, bias)):  # made of signals themselves
        normal = _ConstantScale.apply(x, wide * scale, scale, None, None, (axes, centred))
        return _affine(normal, weight, bias).to(x.dtype)
    factor = scale if weight is None else scale * weight.detach().to(scale)
    whole: Tensor = _ConstantScale.apply(x, wide * scale, factor, weight, bias, (axes, centred))
    return whole


class _ConstantScale(torch.autograd.Function):
    """``factor * x``, centred."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, normalised: Tensor, factor: Tensor, weight: Tensor | None, bias: Tensor | None, rest: Any
    ) -> Tensor:
        ctx.factor, ctx.rest, ctx.dtype = factor, rest, x.dtype
        ctx.set_materialize_grads(False)  # a gradient that never arrives is not one that is zero
        value = _affine(normalised, weight, bias).to(x.dtype)
        return value.clone() if value is normalised else value  # no view, which the model could not change in place

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        axes, centred = ctx.rest
        if grads[0] is None:
            return (None,) * 6
        scaled = grads[0] * ctx.factor
        found = scaled - scaled.mean(axes, keepdim=True) if centred else scaled
        return found.to(ctx.dtype), None, None, None, None, None


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight.to(x)
    return x if bias is None else x + bias.to(x)
