"""Fused attention: the rules of its two matrix products and its softmax as one, in tiles.

For ``O = A V`` and ``Z = Q K^T`` (scale, mask and softmax pass relevance on; halves as in ``product``):

    S   = R_O / O
    R_A = A * (S V^T) / 2                 R_V = V * (A^T S) / 2
    R_Q = Q * ((R_A / Z) K) / 2           R_K = K * ((R_A / Z)^T Q) / 2

A tile of A, of Z and of R_A is made and dropped, so memory grows with the number of tokens n, not n^2.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_ultra.relevance.calls import AttentionCall
from captum_ultra.relevance.lrp.division import safe_divide
from captum_ultra.relevance.tiles import by_group, by_head, cut

__all__ = ["attention_shares", "output_shares"]


def output_shares(relevance: Tensor, call: AttentionCall) -> Tensor:
    """S = R_O / O [B, H, n, d_v], of the relevance R_O [B, H, n, d_v]: from it any tile of R_A can be made again."""
    return safe_divide(relevance, call.attend())


def attention_shares(share: Tensor, call: AttentionCall, learned_query: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """The relevance of queries, keys and values, in their shapes.

    Args:
        share: S of :func:`output_shares` [B, H, n, d_v].
        call: the attention.
        learned_query: the queries are weights, so that the scores are a linear map of the keys, and take none.
    """
    q, k, v = call.query, call.key, call.value
    batch, heads, n, _ = q.shape
    groups, width = k.shape[1:3]
    queries, keyed, values, shares = (by_head(each, heads, q.dtype) for each in (q, k, v, share))
    r_q, r_k, r_v = (torch.zeros_like(each) for each in (queries, keyed, values))
    for head, rows in cut(batch * heads, slice(0, n), width, 1, call.is_causal, q.device):
        keys = slice(rows.stop if call.is_causal else width)
        q_rows, k_rows, v_rows, s_rows = queries[head, rows], keyed[head, keys], values[head, keys], shares[head, rows]
        scores = q_rows @ k_rows.mT
        probabilities = call.probabilities(scores, head, rows)
        of_map = (s_rows @ v_rows.mT).mul_(probabilities).div_(2)
        r_v[head, keys] += v_rows * (probabilities.mT @ s_rows) / 2
        if learned_query:
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
