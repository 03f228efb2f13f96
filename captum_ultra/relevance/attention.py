"""Scaled dot-product attention that carries relevance.

Forward: ``(q, k, v, r) -> (attention(q, k, v), r)``, through the fused kernel that the model
itself would use. Backward, given the gradient dO of the output and the relevance rows R of the
targets, by the rule of the flow that is pulled back:

    dA = dO V^T,    R <- R + mean_h rule(R, A, dA * A),    and the usual dq, dk, dv.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_ultra.relevance.batched import BatchedBackward, targets_first
from captum_ultra.relevance.calls import AttentionCall
from captum_ultra.relevance.flow import Flow
from captum_ultra.relevance.passage import Passage
from captum_ultra.relevance.tiles import tiled_backward, tiled_forward

__all__ = ["relevance_attention"]


def relevance_attention(call: AttentionCall, relevance: Tensor, passage: Passage) -> tuple[Tensor, Tensor]:
    """Attention output [B, H, n, d_v] and the relevance vector [B, n], tied together for backward.

    Args:
        call: the attention.
        relevance: [B, n]; its values do not matter, only its place in the graph.
        passage: where the relevance is.
    """
    return _RelevanceAttention.apply(call.query, call.key, call.value, relevance, call, passage)


class _RelevanceAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, relevance: Tensor, call: AttentionCall, passage: Passage
    ) -> Any:
        ctx.save_for_backward(query, key, value)
        ctx.rest = (call.mask, call.dropout, call.is_causal, call.scale)
        ctx.passage = passage
        ctx.set_materialize_grads(False)  # to tell a gradient that never arrives from one that is zero
        return call.attend(), relevance.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        gradient, relevance = grads
        if relevance is not None:
            ctx.passage.check_connected(gradient)
        # The tensors come from the context, not from the call, which would hold on to its own graph.
        return *_Backward.apply(gradient, relevance, *ctx.saved_tensors, ctx.rest, ctx.passage), None, None


class _Backward(BatchedBackward):
    @staticmethod
    def forward(gradient: Tensor | None, relevance: Tensor | None, *rest: Any) -> Any:
        gradient, relevance = (None if each is None else each[None] for each in (gradient, relevance))
        return tuple(None if each is None else each[0] for each in _backward(gradient, relevance, *rest))

    @staticmethod
    def vmap(info: Any, in_dims: Any, *args: Any) -> Any:
        gradient, relevance = (
            None if each is None else targets_first(each, dim, info.batch_size)
            for each, dim in zip(args[:2], in_dims, strict=False)
        )
        found = _backward(gradient, relevance, *args[2:])
        return found, tuple(None if each is None else 0 for each in found)


def _backward(
    gradient: Tensor | None, relevance: Tensor | None, query: Tensor, key: Tensor, value: Tensor, rest: Any,
    passage: Passage,
) -> tuple[Tensor | None, ...]:  # fmt: skip
    call = AttentionCall(query, key, value, *rest)
    if gradient is None:
        assert relevance is not None
        return None, None, None, passage.below(relevance, lambda flow, rows: tiled_forward(rows, call, flow.rule))
    if relevance is None:  # it starts below, or only gradients are asked for
        return tiled_backward(gradient, call)
    gradients: list[Tensor] = []

    def adds(flow: Flow, rows: Tensor) -> Tensor:
        *found, added = tiled_backward(gradient, call, rows, flow.rule, flow.cells.get(passage.block))
        gradients.extend(found)
        assert added is not None
        return added

    below = passage.below(relevance, adds)
    return *gradients, below
