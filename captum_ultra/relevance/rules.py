"""What one attention head does to a relevance row: pure functions, one per method.

A rule sees a tile of one or more heads: some query rows against all their keys, for several
explained targets at once. Shapes (g heads of the batch, T targets, m query rows, n keys):

- ``relevance``      [g, T, m]     relevance of the query rows, one row vector per target
- ``probabilities``  [g, m, n]     attention probabilities A, the same for all targets
- ``product``        [g, m, T, n]  gradient of the explained scalar with respect to A, times A
- result             [g, T, n]     what the head adds to the relevance of the keys

The identity (the residual connection) and the mean over heads belong to the operations that call
the rule. A rule must not write into its arguments.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

__all__ = ["Rule", "gradient_weighted", "rollout"]


class Rule(Protocol):
    """The signature of a rule; see the module's docstring for the shapes."""

    def __call__(self, relevance: Tensor, probabilities: Tensor, product: Tensor) -> Tensor: ...


def gradient_weighted(relevance: Tensor, probabilities: Tensor, product: Tensor) -> Tensor:
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


def rollout(relevance: Tensor, probabilities: Tensor, product: Tensor) -> Tensor:
    """Attention rollout without gradients: ``R A`` (Abnar and Zuidema 2020, before normalisation).

    Example:
        >>> import torch
        >>> R = torch.tensor([[[1.0, 1.0]]])
        >>> A = torch.tensor([[[0.5, 0.5], [0.25, 0.75]]])
        >>> rollout(R, A, torch.zeros(1, 2, 1, 2))
        tensor([[[0.7500, 1.2500]]])
    """
    return relevance @ probabilities


def _rows_times_tile(relevance: Tensor, tile: Tensor) -> Tensor:
    """Contract the query rows: [g, T, m] with [g, m, T, n] -> [g, T, n]."""
    heads, targets, _, keys = (tile.shape[0], tile.shape[2], tile.shape[1], tile.shape[3])
    columns = tile.transpose(1, 2)
    if heads == 1:  # a strided view that the matrix product takes without a copy
        return (relevance[0].unsqueeze(1) @ columns[0]).reshape(1, targets, keys)
    return (relevance.unsqueeze(2) @ columns).squeeze(2)
