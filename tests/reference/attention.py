"""One attention layer with relevance, written out: every map in memory, one target at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tests.reference.recording import explicit_attention

__all__ = ["layer_backward", "plain_attention", "positive_gradient", "positive_product", "row_weighted"]


def positive_product(relevance: Tensor, probabilities: Tensor, gradient: Tensor) -> Tensor:
    """R relu(dA * A) for one head: [n], [n, n], [n, n] -> [n]."""
    return relevance @ torch.relu(gradient * probabilities)


def positive_gradient(relevance: Tensor, probabilities: Tensor, gradient: Tensor) -> Tensor:
    """R relu(dA) for one head, where a row may attend to a key."""
    return relevance @ torch.where(probabilities > 0, torch.relu(gradient), 0)


def plain_attention(relevance: Tensor, probabilities: Tensor, gradient: Tensor) -> Tensor:
    """R A for one head."""
    return relevance @ probabilities


def row_weighted(relevance: Tensor, probabilities: Tensor, gradient: Tensor) -> Tensor:
    """R A for one head, each row times the mean of its gradient over the keys that it may attend to."""
    found = torch.zeros_like(relevance)
    for amount, row, of_row in zip(relevance, probabilities, gradient, strict=True):
        if (row > 0).any():
            found += amount * of_row[row > 0].mean() * row
    return found


def layer_backward(
    q: Tensor, k: Tensor, v: Tensor, cotangents: Tensor, rows: Tensor,
    rule: Callable[[Tensor, Tensor, Tensor], Tensor] = positive_product, *, residual: bool = True,
    cells: Tensor | None = None, keys: Tensor | None = None, tokens: Tensor | None = None, **options: object,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """dq, dk, dv and the relevance below, each with the targets first; a loop over targets, samples, heads.

    Args:
        q: [B, H, n, d]; k, v: [B, G, n, d].
        cotangents: [T, B, H, n, d], gradients of the output.
        rows: [T, B, n], relevance above the layer.
        rule: what a head makes of a row.
        residual: whether the row goes on beside what the heads add.
        cells: [B, H, n, n], factors of the gradient.
        keys: [B, H, n], factors of what a head adds to each key.
        tokens: [B, n], factors of the row before it meets the attention.
        options: of scaled_dot_product_attention.
    """
    q, k, v = (each.detach().requires_grad_() for each in (q, k, v))
    output, probabilities = explicit_attention(q, k, v, **options)  # type: ignore[arg-type]
    results = []
    for cotangent, row in zip(cotangents, rows, strict=True):
        dq, dk, dv, da = torch.autograd.grad(output, (q, k, v, probabilities), cotangent, retain_graph=True)
        above = row if tokens is None else row * tokens
        below = above.clone() if residual else torch.zeros_like(above)
        for sample in range(q.shape[0]):
            for head in range(q.shape[1]):
                gradient = da[sample, head] if cells is None else da[sample, head] * cells[sample, head]
                added = rule(above[sample], probabilities[sample, head].detach(), gradient)
                below[sample] += (added if keys is None else added * keys[sample, head]) / q.shape[1]
        results.append((dq, dk, dv, below))
    return tuple(torch.stack(each) for each in zip(*results, strict=True))  # type: ignore[return-value]
