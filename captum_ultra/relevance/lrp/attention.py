"""Fused attention: the rules of its two matrix products and its softmax as one, in tiles.

For ``O = A V`` and ``Z = Q K^T`` (scale, mask and softmax pass relevance on; halves as in ``product``):

    S   = R_O / O
    R_A = A * (S V^T) / 2                 R_V = V * (A^T S) / 2
    R_Q = Q * ((R_A / Z) K) / 2           R_K = K * ((R_A / Z)^T Q) / 2

A tile of A, of Z and of R_A is made and dropped, so memory grows with the number of tokens n, not n^2.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.relevance.lrp.division import safe_divide
from captum_ultra.relevance.tiles import by_group, by_head, cut, mask_tile, masked_softmax

__all__ = ["AttentionCall", "attention_shares", "output_shares"]


@dataclass(frozen=True)
class AttentionCall:
    """The arguments of one attention call beside queries, keys and values.

    Attributes:
        mask: boolean (True = attend) or additive, broadcastable to [B, H, n, m], or None.
        scale: factor of the scores.
        is_causal: row i attends to tokens 0..i.
        learned_query: the queries are weights, so that the scores are a linear map of the keys.
    """

    mask: Tensor | None
    scale: float
    is_causal: bool = False
    learned_query: bool = False

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """The output [B, H, n, d_v] by the fused kernel."""
        mask = self.mask if self.mask is None or self.mask.dtype == torch.bool else self.mask.to(q.dtype)
        grouped = k.shape[1] != q.shape[1]
        return F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=self.is_causal, scale=self.scale, enable_gqa=grouped
        )

    def probabilities(self, scores: Tensor, heads: int, head: slice, rows: slice) -> Tensor:
        """A tile of A [g, rows, keys] from unscaled scores, which are left as they are."""
        mask = mask_tile(self.mask, heads, head, rows)
        return masked_softmax(scores * self.scale, mask, rows.start if self.is_causal else None)


def output_shares(relevance: Tensor, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall) -> Tensor:
    """S = R_O / O [B, H, n, d_v], from which any tile of R_A can be made again.

    Args:
        relevance: of the output [B, H, n, d_v].
        q: [B, H, n, d].
        k: [B, G, m, d]; G divides H.
        v: [B, G, m, d_v].
        call: the other arguments.
    """
    return safe_divide(relevance, call.attend(q, k, v))


def attention_shares(
    share: Tensor, q: Tensor, k: Tensor, v: Tensor, call: AttentionCall
) -> tuple[Tensor, Tensor, Tensor]:
    """The relevance of queries, keys and values, in their shapes; learned queries take none.

    Args:
        share: S of :func:`output_shares` [B, H, n, d_v].
        q: [B, H, n, d].
        k: [B, G, m, d]; G divides H.
        v: [B, G, m, d_v].
        call: the other arguments.
    """
    batch, heads, n, _ = q.shape
    groups, width = k.shape[1:3]
    queries, keyed, values, shares = (by_head(each, heads, q.dtype) for each in (q, k, v, share))
    r_q, r_k, r_v = (torch.zeros_like(each) for each in (queries, keyed, values))
    for head, rows in cut(batch * heads, n, 1, call.is_causal, q.device):
        keys = slice(rows.stop if call.is_causal else width)
        q_rows, k_rows, v_rows, s_rows = queries[head, rows], keyed[head, keys], values[head, keys], shares[head, rows]
        scores = q_rows @ k_rows.mT
        probabilities = call.probabilities(scores, heads, head, rows)
        of_map = (s_rows @ v_rows.mT).mul_(probabilities).div_(2)
        r_v[head, keys] += v_rows * (probabilities.mT @ s_rows) / 2
        if call.learned_query:
            r_k[head, keys] += _weighted(of_map, q_rows, k_rows)
        else:
            of_scores = safe_divide(of_map, scores)
            r_q[head, rows] = q_rows * (of_scores @ k_rows) / 2
            r_k[head, keys] += k_rows * (of_scores.mT @ q_rows) / 2
    r_k, r_v = (by_group(each.view(1, batch * heads, width, -1), batch, groups)[0] for each in (r_k, r_v))
    return r_q.view(q.shape), r_k, r_v


def _weighted(of_map: Tensor, queries: Tensor, keys: Tensor) -> Tensor:
    """The relevance of keys under ``Z = Q K^T`` with constant Q: see ``weighted``."""
    up, down = (queries.clamp(min=0), keys.clamp(min=0)), (queries.clamp(max=0), keys.clamp(max=0))
    of_scores = safe_divide(of_map, up[0] @ up[1].mT + down[0] @ down[1].mT)
    return up[1] * (of_scores.mT @ up[0]) + down[1] * (of_scores.mT @ down[0])
