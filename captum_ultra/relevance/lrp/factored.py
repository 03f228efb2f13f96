"""Values whose dependence on a signal is linear: whatever they are, their gradient is a given factor."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_ultra.relevance.batched import BatchedBackward, targets_first
from captum_ultra.relevance.calls import AttentionCall
from captum_ultra.relevance.tiles import tiled_backward, tiled_values

__all__ = ["constant_attention", "factored", "halved_attention", "two_factored"]


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


def constant_attention(call: AttentionCall) -> Tensor:
    """The output of an attention whose probabilities are constants: only its values are signals."""
    return _ConstantAttention.apply(call.value, call.query.detach(), call.key.detach(), _rest(call))


def halved_attention(call: AttentionCall) -> Tensor:
    """The output of an attention in which both factors of ``A V`` and of ``Q K^T`` take half."""
    return _HalvedAttention.apply(call.query, call.key, call.value, _rest(call))


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


class _ConstantAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, query: Tensor, key: Tensor, rest: Any) -> Tensor:
        call = ctx.call = AttentionCall(query, key, value.detach(), *rest)
        return call.attend()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return _Values.apply(grads[0], ctx.call), None, None, None


class _HalvedAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, rest: Any) -> Tensor:
        call = ctx.call = AttentionCall(query.detach(), key.detach(), value.detach(), *rest)
        return call.attend()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        d_query, d_key, d_value = _All.apply(grads[0], ctx.call)
        return d_query / 4, d_key / 4, d_value / 2, None


class _Values(BatchedBackward):
    @staticmethod
    def forward(gradient: Tensor, call: AttentionCall) -> Tensor:
        return tiled_values(gradient[None], call)[0]

    @staticmethod
    def vmap(info: Any, in_dims: Any, gradient: Tensor, call: AttentionCall) -> Any:
        return tiled_values(targets_first(gradient, in_dims[0], info.batch_size), call), 0


class _All(BatchedBackward):
    @staticmethod
    def forward(gradient: Tensor, call: AttentionCall) -> Any:
        return tuple(each[0] for each in tiled_backward(gradient[None], call)[:3] if each is not None)

    @staticmethod
    def vmap(info: Any, in_dims: Any, gradient: Tensor, call: AttentionCall) -> Any:
        return tiled_backward(targets_first(gradient, in_dims[0], info.batch_size), call)[:3], (0, 0, 0)


def _rest(call: AttentionCall) -> tuple[Any, ...]:
    mask = None if call.mask is None else call.mask.detach()
    return mask, call.dropout, call.is_causal, call.scale


def _summed_to(gradient: Tensor, shape: torch.Size) -> Tensor:
    """A gradient of something that was broadcast, in its own shape; no ``sum_to_size``, which ``vmap`` lacks."""
    if gradient.shape == shape:
        return gradient
    lead = gradient.dim() - len(shape)
    gradient = gradient.sum(tuple(range(lead))) if lead else gradient
    short = tuple(axis for axis, size in enumerate(shape) if size == 1 and gradient.shape[axis] != 1)
    return gradient.sum(short, keepdim=True) if short else gradient
