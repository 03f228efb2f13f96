"""The backward pass of attention for targets that reach one query row each, as in the block that an explained token
leaves: what follows its attention is token by token, so that of the gradient of the output one row is not zero.

Gradients of keys and values are then of rank one in every head, and no tile of other rows is ever made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_ultra.relevance.cuts import Passing, RowGradient
from captum_ultra.relevance.tiles import masked_softmax

if TYPE_CHECKING:
    from captum_ultra.relevance.calls import AttentionCall

__all__ = ["row_backward"]


def row_backward(
    gradient: RowGradient, call: AttentionCall, passing: Passing | None = None, *, values_alone: bool = False
) -> tuple[Tensor | None, Tensor | None, Tensor, Tensor | None]:
    """Gradients of queries, keys and values, and what the layer adds to the relevance.

    Args:
        gradient: of the output.
        call: the attention.
        passing: relevance that meets it; of its rows, that of the target's own token counts. Its rule must add
            nothing for rows without a gradient.
        values_alone: leave the gradients of queries and keys out, and the relevance.

    Returns:
        As :func:`captum_ultra.relevance.tiles.tiled_backward`.
    """
    targets, batch, heads, d_v = gradient.values.shape
    groups, width, d = call.key.shape[1], *call.key.shape[2:]
    compute = torch.promote_types(call.query.dtype, torch.float32)
    k, v = (each.to(compute) for each in (call.key, call.value))
    samples = torch.arange(batch, device=k.device)
    tokens = gradient.tokens.to(k.device)
    # Heads that share keys and values stand beside the targets, as further rows: [B, G, T H/G, .]
    q = (call.query[samples, :, tokens].to(compute) * call.scale).view(targets, batch, groups, -1, d)
    d_out = gradient.values.to(compute).view(targets, batch, groups, -1, d_v)
    q_rows, o_rows = (each.permute(1, 2, 0, 3, 4).flatten(2, 3) for each in (q, d_out))
    probabilities = _probabilities(q_rows @ k.mT, call, tokens, targets)

    def by_target(rows: Tensor) -> Tensor:
        """[B, G, T H/G, m] -> [T, B, G, H/G, m]."""
        return rows.unflatten(2, (targets, -1)).permute(2, 0, 1, 3, 4)

    dv = by_target(probabilities).mT @ d_out
    if values_alone:
        return None, None, dv, None
    of_map = o_rows @ v.mT
    product, added = of_map * probabilities, None
    if passing is not None:
        own = passing.rows.to(k.device).gather(2, tokens[..., None])  # [T, B, 1]
        above = own[..., None].expand(-1, -1, heads, -1).reshape(-1, 1, 1)
        seen = of_map if passing.rule.sees == "gradient" else product
        flat = [by_target(each).reshape(-1, 1, width) for each in (probabilities, seen)]
        added = passing.rule(above, flat[0], flat[1].unsqueeze(2)).view(targets, batch, heads, width)
    product.addcmul_(product.sum(-1, keepdim=True), probabilities, value=-1)
    dq_rows = by_target(product @ k).reshape(targets, batch, heads, d) * call.scale
    dq = k.new_zeros(targets, batch, heads, call.query.shape[2], d)
    dq[torch.arange(targets, device=k.device)[:, None], samples, :, tokens] = dq_rows
    return dq, by_target(product).mT @ q, dv, added


def _probabilities(scores: Tensor, call: AttentionCall, tokens: Tensor, targets: int) -> Tensor:
    """Attention [B, G, T H/G, m] of single query rows, of their scores."""
    batch, groups, _, width = scores.shape
    by_head = scores.view(batch, groups, targets, -1, width).transpose(2, 3).reshape(batch, -1, targets, width)
    found = masked_softmax(by_head, _mask(call, tokens), None)
    return found.view(batch, groups, -1, targets, width).transpose(2, 3).reshape(scores.shape)


def _mask(call: AttentionCall, tokens: Tensor) -> Tensor | None:
    """The rows [B or 1, H or 1, T, m] of a mask that single queries [T, B] see."""
    if call.is_causal:
        keys = torch.arange(call.key.shape[2], device=tokens.device)
        return (keys <= tokens.T[..., None])[:, None]
    if call.mask is None:
        return None
    mask = call.mask[(None,) * (4 - call.mask.dim())]
    if mask.shape[2] == 1:
        return mask
    index = tokens.T[:, None, :, None].expand(-1, mask.shape[1], -1, mask.shape[3])
    return mask.expand(len(index), -1, -1, -1).gather(2, index)
