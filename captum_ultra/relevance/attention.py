"""Scaled dot-product attention that carries relevance.

Forward: ``(q, k, v, r) -> (attention(q, k, v), r)``, through the fused kernel that the model
itself would use. Backward, given the gradient dO of the output and the relevance rows R of the
targets:

    dA = dO V^T,    R <- R + mean_h rule(R, A, dA * A),    and the usual dq, dk, dv.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.relevance.passage import Passage, targets_first
from captum_ultra.relevance.tiles import tiled_backward, tiled_forward

__all__ = ["AttentionOptions", "relevance_attention"]


@dataclass(eq=False)
class AttentionOptions(Passage):
    """A passage, and the arguments of one attention call beside its tensors."""

    scale: float
    is_causal: bool = False


def relevance_attention(
    query: Tensor, key: Tensor, value: Tensor, relevance: Tensor, mask: Tensor | None, options: AttentionOptions
) -> tuple[Tensor, Tensor]:
    """Attention output [B, H, n, d_v] and the relevance vector [B, n], tied together for backward.

    Args:
        query: [B, H, n, d].
        key, value: [B, G, n, d] and [B, G, n, d_v]; G divides H (grouped queries).
        relevance: [B, n]; its values do not matter, only its place in the graph.
        mask: boolean (True = attend) or additive, broadcastable to [B, H, n, n].
        options: see :class:`AttentionOptions`.
    """
    return _RelevanceAttention.apply(query, key, value, relevance, mask, options)


class _RelevanceAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, relevance: Tensor, mask: Any, options: Any) -> Any:
        ctx.save_for_backward(query, key, value, mask)
        ctx.options = options
        ctx.set_materialize_grads(False)  # to tell a gradient that never arrives from one that is zero
        return _attend(query, key, value, mask, options), relevance.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        query, key, value, mask = ctx.saved_tensors
        if grads[1] is None:  # the relevance starts below, or only gradients are asked for
            return *_gradients_alone(grads[0], query, key, value, mask, ctx.options), None, None, None
        if ctx.options.rule.sees != "nothing":
            ctx.options.ledger.check_connected(ctx.options.block, grads[0])
        return *_Backward.apply(*grads, query, key, value, mask, ctx.options), None, None


class _Backward(torch.autograd.Function):
    """The backward pass as an operation of its own: under ``vmap`` it receives all targets at once."""

    @staticmethod
    def forward(grad: Tensor | None, relevance: Tensor, *rest: Any) -> Any:
        grad = None if grad is None else grad[None]
        return tuple(None if each is None else each[0] for each in _backward(grad, relevance[None], *rest))

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def vmap(info: Any, in_dims: Any, grad: Tensor | None, relevance: Tensor, *rest: Any) -> Any:
        grad = None if grad is None else targets_first(grad, in_dims[0], info.batch_size)
        relevance = targets_first(relevance, in_dims[1], info.batch_size)
        found = _backward(grad, relevance, *rest)
        return found, tuple(None if each is None else 0 for each in found)


def _backward(
    grad: Tensor | None, relevance: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Any,
    options: AttentionOptions,
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor]:  # fmt: skip
    if grad is None:
        added = tiled_forward(relevance, query, key, mask, options.rule, options.scale, options.is_causal)
        return None, None, None, options.below(relevance, added)
    dq, dk, dv, added = tiled_backward(
        grad, relevance, query, key, value, mask, options.rule, options.scale, options.is_causal,
        options.cells.get(options.block),
    )  # fmt: skip
    return dq, dk, dv, options.below(relevance, added)


def _gradients_alone(grad: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: Any, options: Any) -> Any:
    """dq, dk, dv by the fused kernel's own backward pass, where no relevance arrives."""
    with torch.enable_grad():
        q, k, v = (each.detach().requires_grad_() for each in (query, key, value))
        return torch.autograd.grad(_attend(q, k, v, mask, options), (q, k, v), grad)


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: AttentionOptions) -> Tensor:
    return F.scaled_dot_product_attention(
        query, key, value, mask, is_causal=options.is_causal, scale=options.scale,
        enable_gqa=key.shape[1] != query.shape[1],
    )  # fmt: skip
