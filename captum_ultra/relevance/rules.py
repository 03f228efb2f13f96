"""What one attention head does to a relevance row: pure functions, one per method.

A rule sees a tile of one or more heads: some query rows against all their keys, for several
explained targets at once. Shapes (g heads of the batch, T targets, m query rows, n keys):

- ``relevance``      [g, T, m]     relevance of the query rows, one row vector per target
- ``probabilities``  [g, m, n]     attention probabilities A, the same for all targets
- ``seen``           [g, m, T, n]  what the rule ``sees`` of the explained scalar: its gradient dA with
                                   respect to A, the product dA * A, or nothing
- result             [g, T, n]     what the head adds to the relevance of the keys

The identity (the residual connection) and the mean over heads belong to the operations that call
the rule. A rule must not write into its arguments, and must be a sum over query rows: a tile holds
some of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

__all__ = ["Rule", "gradient_rows", "gradient_weighted", "rollout", "row_gradient"]

Head = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Rule:
    """A rule and what it needs; call it like the function it holds.

    Attributes:
        head: ``(relevance, probabilities, seen) -> added``; see the module's docstring for the shapes.
        sees: "product" (dA * A, which the attention's backward pass makes anyway), "gradient" (dA), or
            "nothing": then ``seen`` is empty and no gradient is needed at all.
    """

    head: Head
    sees: Literal["product", "gradient", "nothing"] = "product"

    def __call__(self, relevance: Tensor, probabilities: Tensor, seen: Tensor) -> Tensor:
        return self.head(relevance, probabilities, seen)


def positive_products(relevance: Tensor, probabilities: Tensor, product: Tensor) -> Tensor:
    """ULTra and GAE: ``R relu(dA * A)`` (arXiv 2411.12589, contribution maps; Chefer et al. 2021, eq. 5).

    Example:
        >>> import torch
        >>> R = torch.tensor([[[1.0, 0.0]]])               # one head, one target, two query rows
        >>> A = torch.tensor([[[0.5, 0.5], [0.1, 0.9]]])
        >>> dA = torch.tensor([[[2.0, -4.0], [1.0, 1.0]]])
        >>> gradient_weighted(R, A, (dA * A).unsqueeze(2))
        tensor([[[1., 0.]]])
    """
    return _rows_times_tile(relevance, product.clamp(min=0))


def plain_products(relevance: Tensor, probabilities: Tensor, seen: Tensor) -> Tensor:
    """Attention rollout without gradients: ``R A`` (Abnar and Zuidema 2020, before normalisation).

    Example:
        >>> import torch
        >>> R = torch.tensor([[[1.0, 1.0]]])
        >>> A = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]])
        >>> rollout(R, A, torch.empty(0))
        tensor([[[0.7500, 1.2500]]])
    """
    return relevance @ probabilities


def positive_gradients(relevance: Tensor, probabilities: Tensor, gradient: Tensor) -> Tensor:
    """LeGrad: ``R relu(dA)``, the attention itself left out (Bousselham et al. 2024, eq. 6).

    Keys that a row may not attend to, whose attention is exactly zero, get nothing.

    Example:
        >>> import torch
        >>> R = torch.tensor([[[1.0, 0.5]]])
        >>> dA = torch.tensor([[[2.0, -4.0], [1.0, 1.0]]])
        >>> gradient_rows(R, torch.full((1, 2, 2), 0.5), dA.unsqueeze(2))
        tensor([[[2.5000, 0.5000]]])
    """
    attended = (probabilities > 0).to(gradient).unsqueeze(2)
    return _rows_times_tile(relevance, gradient.clamp(min=0) * attended)


def row_gradient(columns: slice | list[int]) -> Rule:
    """Grad-CAM on attention: ``R A``, every query row weighted by the mean of its gradient over ``columns``.

    Keys that a row may not attend to, whose attention is exactly zero, are left out of the mean.

    Args:
        columns: the keys over which the gradient is averaged (the patches).

    Example:
        >>> import torch
        >>> R = torch.tensor([[[1.0]]])
        >>> A = torch.tensor([[[0.2, 0.3, 0.5]]])
        >>> dA = torch.tensor([[[9.0, 2.0, 4.0]]])
        >>> row_gradient(slice(1, 3))(R, A, dA.unsqueeze(2))
        tensor([[[0.6000, 0.9000, 1.5000]]])
    """

    def head(relevance: Tensor, probabilities: Tensor, gradient: Tensor) -> Tensor:
        attended = (probabilities[..., columns] > 0).to(gradient).unsqueeze(2)
        sums = (gradient[..., columns] * attended).sum(-1)
        weights = (sums / attended.sum(-1).clamp(min=1)).transpose(1, 2)  # [g, T, m]
        return (relevance * weights) @ probabilities

    return Rule(head, sees="gradient")


gradient_weighted = Rule(positive_products)
gradient_rows = Rule(positive_gradients, sees="gradient")
rollout = Rule(plain_products, sees="nothing")


def _rows_times_tile(relevance: Tensor, tile: Tensor) -> Tensor:
    """Contract the query rows: [g, T, m] with [g, m, T, n] -> [g, T, n]."""
    heads, targets, _, keys = (tile.shape[0], tile.shape[2], tile.shape[1], tile.shape[3])
    columns = tile.transpose(1, 2)
    if heads == 1:  # a strided view that the matrix product takes without a copy
        return (relevance[0].unsqueeze(1) @ columns[0]).reshape(1, targets, keys)
    return (relevance.unsqueeze(2) @ columns).squeeze(2)
