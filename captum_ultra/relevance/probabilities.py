"""Relevance for models that compute their own softmax: the same rule on explicit probabilities.

Forward: the identity on (A, r). Backward: the gradient dA of the probabilities passes through
unchanged, and ``R <- R + mean_h rule(R, A, dA * A)``.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_ultra.relevance.batched import BatchedBackward, targets_first
from captum_ultra.relevance.flow import Flow
from captum_ultra.relevance.passage import Passage

__all__ = ["relevance_probabilities"]


def relevance_probabilities(probabilities: Tensor, relevance: Tensor, passage: Passage) -> tuple[Tensor, Tensor]:
    """Probabilities and relevance unchanged, tied together for backward.

    Args:
        probabilities: [B, H, n, n], or [B, H, n, n + 1] when the last column is a sink that the
            model drops after the softmax (its relevance goes nowhere).
        relevance: [B, n]; its values do not matter, only its place in the graph.
        passage: see :class:`captum_ultra.relevance.passage.Passage`.
    """
    return _RelevanceProbabilities.apply(probabilities, relevance, passage)


class _RelevanceProbabilities(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, relevance: Tensor, passage: Any) -> Any:
        ctx.save_for_backward(probabilities)
        ctx.passage = passage
        ctx.set_materialize_grads(False)  # to tell a gradient that never arrives from one that is zero
        return probabilities.view_as(probabilities), relevance.clone()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        gradient, relevance = grads
        (probabilities,) = ctx.saved_tensors
        if relevance is None:  # another trace of the same run is pulled back, or only gradients are asked for
            return gradient, None, None
        ctx.passage.check_connected(gradient)
        arrived = torch.zeros_like(probabilities) if gradient is None else gradient
        return gradient, _Row.apply(arrived, relevance, probabilities, ctx.passage), None


class _Row(BatchedBackward):
    """The new relevance row."""

    @staticmethod
    def forward(gradient: Tensor, relevance: Tensor, *rest: Any) -> Tensor:
        return _row(gradient[None], relevance[None], *rest)[0]

    @staticmethod
    def vmap(info: Any, in_dims: Any, gradient: Tensor, relevance: Tensor, *rest: Any) -> Any:
        gradient = targets_first(gradient, in_dims[0], info.batch_size)
        relevance = targets_first(relevance, in_dims[1], info.batch_size)
        return _row(gradient, relevance, *rest), 0


def _row(gradient: Tensor, relevance: Tensor, probabilities: Tensor, passage: Passage) -> Tensor:
    """Relevance one layer below, [T, B, n]."""
    n = gradient.shape[3]
    passage.ledger.note_extra_keys(passage.block, gradient[..., n:])
    return passage.below(relevance, lambda flow, rows: _added(gradient, rows, probabilities, flow, passage.block))


def _added(gradient: Tensor, relevance: Tensor, probabilities: Tensor, flow: Flow, block: int) -> Tensor:
    """What each head adds [T, B, H, n]; one head at a time, accumulated in at least float32."""
    _, batch, heads, n, _ = gradient.shape
    rule, cells = flow.rule, flow.cells.get(block)
    # Models may compute their softmax in float32 whatever the dtype of their residual stream.
    compute = torch.promote_types(probabilities.dtype, relevance.dtype)
    added = relevance.new_zeros(len(relevance), batch, heads, n)
    for b in range(batch):
        for h in range(heads):
            attention = probabilities[b, h, :, :n].to(compute)
            seen = gradient[:, b, h, :, :n].transpose(0, 1).to(compute)
            if rule.sees == "product":
                seen = seen * attention.unsqueeze(1)
            if cells is not None:
                head, whole = slice(b * heads + h, b * heads + h + 1), slice(0, n)
                seen = seen * cells.quotient(head, whole, whole)[0].to(compute).unsqueeze(1)
            added[:, b, h] = rule(relevance[None, :, b], attention[None], seen[None])[0]
    return added
