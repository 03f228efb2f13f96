"""One attention layer with relevance, written out: every map in memory, one target at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.reference.recording import explicit_attention

__all__ = ["layer_backward", "plain_attention", "positive_product"]


def positive_product(relevance: Tensor, probabilities: Tensor, gradient: Tensor) -> Tensor:
    """R relu(dA * A) for one head: [n], [n, n], [n, n] -> [n]."""
    return relevance @ torch.relu(gradient * probabilities)


def plain_attention(relevance: Tensor, probabilities: Tensor, gradient: Tensor) -> Tensor:
    """R A for one head."""
    return relevance @ probabilities


def layer_backward(
    q: Tensor, k: Tensor, v: Tensor, cotangents: Tensor, rows: Tensor,
    rule: Callable[[Tensor, Tensor, Tensor], Tensor] = positive_product, **options: object,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """dq, dk, dv and the relevance below, each with the targets first; a loop over targets, samples, heads.

    Args:
        q: [B, H, n, d]; k, v: [B, G, n, d].
        cotangents: [T, B, H, n, d], gradients of the output.
        rows: [T, B, n], relevance above the layer.
        options: of scaled_dot_product_attention.
    """
    q, k, v = (each.detach().requires_grad_() for each in (q, k, v))
    output, probabilities = explicit_attention(q, k, v, **options)  # type: ignore[arg-type]
    results = []
    for cotangent, row in zip(cotangents, rows, strict=True):
        dq, dk, dv, da = torch.autograd.grad(output, (q, k, v, probabilities), cotangent, retain_graph=True)
        below = row.clone()
        for sample in range(q.shape[0]):
            for head in range(q.shape[1]):
                a = probabilities[sample, head].detach()
                below[sample] += rule(row[sample], a, da[sample, head]) / q.shape[1]
        results.append((dq, dk, dv, below))
    return tuple(torch.stack(each) for each in zip(*results, strict=True))  # type: ignore[return-value]
