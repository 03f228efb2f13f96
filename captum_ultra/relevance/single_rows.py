"""The backward pass of attention for targets that reach one query row each, as in the block that an explained token
leaves: what follows its attention is token by token, so that of the gradient of the output one row is not zero.

Gradients of keys and values are then outer products, one for every query that shares them, and no tile of other rows is
ever made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_ultra.relevance.cuts import Passing, RowGradient
from captum_ultra.relevance.tiles import masked_softmax

if TYPE_CHECKING:
    from captum_ultra.relevance.calls import AttentionCall

__all__ = ["OuterProducts", "Rows", "row_backward"]


@dataclass(frozen=True, eq=False)
class OuterProducts:
    """A sum of outer products for every head: ``factors^T rows``.

    Attributes:
        factors: of the keys [T, B, G, r, m].
        rows: [T, B, G, r, e].
    """

    factors: Tensor
    rows: Tensor

    def whole(self) -> Tensor:
        """The sum [T, B, G, m, e]."""
        return self.factors.mT @ self.rows

    def through(self, weight: Tensor) -> OuterProducts:
        """Times the weight of each head [G, e, d], and summed over heads: one head, with G r products."""
        rows = self.rows @ weight.to(self.rows)
        return OuterProducts(*(each.flatten(2, 3).unsqueeze(2) for each in (self.factors, rows)))

    @staticmethod
    def joined(several: Sequence[OuterProducts]) -> OuterProducts:
        """The sum of several sums."""
        return OuterProducts(
            torch.cat([each.factors for each in several], 3), torch.cat([each.rows for each in several], 3)
        )


@dataclass(frozen=True, eq=False)
class Rows:
    """Gradients of targets with one query row each.

    Attributes:
        queries: each that of its row alone.
        keys, values: of all.
        added: what each head adds to the relevance [T, B, H, n], where relevance meets the attention.
    """

    queries: OuterProducts
    keys: OuterProducts
    values: OuterProducts
    added: Tensor | None


def row_backward(gradient: RowGradient, call: AttentionCall, passing: Passing | None = None) -> Rows:
    """Gradients of queries, keys and values, and what the layer adds to the relevance.

    Args:
        gradient: of the output.
        call: the attention.
        passing: relevance that meets it; of its rows, that of the target's own token counts. Its rule must add
            nothing for rows without a gradient.
    """
    targets, batch, heads, _ = gradient.values.shape
    groups, width, d = call.key.shape[1], *call.key.shape[2:]
    compute = torch.promote_types(call.query.dtype, torch.float32)
    k, v = (each.to(compute) for each in (call.key, call.value))
    tokens = gradient.tokens.to(k.device)
    # Heads that share keys and values stand beside the targets, as further rows: [B, G, T H/G, .]
    q = call.query[torch.arange(batch, device=k.device), :, tokens].to(compute) * call.scale
    q, d_out = (each.view(targets, batch, groups, -1, each.shape[-1]) for each in (q, gradient.values.to(compute)))
    q_rows, o_rows = (each.permute(1, 2, 0, 3, 4).flatten(2, 3) for each in (q, d_out))
    probabilities = _probabilities(q_rows @ k.mT, call, tokens, targets)

    def by_target(rows: Tensor) -> Tensor:
        """[B, G, T H/G, m] -> [T, B, G, H/G, m]."""
        return rows.unflatten(2, (targets, -1)).permute(2, 0, 1, 3, 4)

    of_map = o_rows @ v.mT
    product, added = of_map * probabilities, None
    if passing is not None:
        own = passing.rows.to(k.device).gather(2, tokens[..., None])  # [T, B, 1]
        above = own[..., None].expand(-1, -1, heads, -1).reshape(-1, 1, 1)
        seen = of_map if passing.rule.sees == "gradient" else product
        flat = [by_target(each).reshape(-1, 1, width) for each in (probabilities, seen)]
        added = passing.rule(above, flat[0], flat[1].unsqueeze(2)).view(targets, batch, heads, width)
    product.addcmul_(product.sum(-1, keepdim=True), probabilities, value=-1)
    own_row = torch.nn.functional.one_hot(tokens, call.query.shape[2]).to(q)[:, :, None, None]
    of_row = by_target(product @ k).reshape(targets, batch, heads, 1, d) * call.scale
    queries = OuterProducts(own_row.expand(-1, -1, heads, -1, -1), of_row)
    keys, values = OuterProducts(by_target(product), q), OuterProducts(by_target(probabilities), d_out)
    return Rows(queries, keys, values, added)


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
