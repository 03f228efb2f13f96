"""Attention of models that compute their own softmax: relevance on explicit probabilities.

The run is cut at the probabilities A. Their gradient dA goes down as it is, and ``R <- R + mean_h rule(R, A, dA * A)``.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from captum_ultra.relevance.cuts import Passing, Pulled, RowGradient
from captum_ultra.relevance.ledger import Ledger

__all__ = ["ExplicitAttention"]


class ExplicitAttention:
    """The probabilities of an attention in a run that is cut.

    Args:
        probabilities: [B, H, n, n], or [B, H, n, n + 1] when the last column is a sink that the
            model drops after the softmax (its relevance goes nowhere).
        ledger: is told whether it does.
        block: its number.

    Attributes:
        below: the probabilities.
    """

    by_row = False  # above the cut, values are still to be mixed

    def __init__(self, probabilities: Tensor, ledger: Ledger, block: int) -> None:
        self.below: tuple[GradientEdge, ...] = ()
        if probabilities.requires_grad:
            self.below = (get_gradient_edge(probabilities),)
        self._probabilities, self._ledger, self._block = probabilities.detach(), ledger, block

    def back(self, gradient: Tensor | None, passing: Passing | None, wanted: bool) -> tuple[Pulled, Tensor | None]:
        """See :class:`captum_ultra.relevance.cuts.Crossing`; gradients are [T, B, H, n, m]."""
        found = [(edge, gradient) for edge in self.below if wanted and gradient is not None]
        if passing is None:
            return found, None
        if gradient is None:  # of a rule that sees none
            gradient = self._probabilities.new_zeros(()).expand(len(passing.rows), *self._probabilities.shape)
        self._ledger.note_extra_keys(self._block, gradient[..., gradient.shape[3] :])
        return found, _added(gradient, self._probabilities, passing)

    def back_by_row(self, gradient: RowGradient, passing: Passing | None) -> tuple[Pulled, Tensor | None]:
        """Nothing that exists; see ``by_row``."""
        raise NotImplementedError


def _added(gradient: Tensor, probabilities: Tensor, passing: Passing) -> Tensor:
    """What each head adds [T, B, H, n]; one head at a time, accumulated in at least float32."""
    _, batch, heads, n, _ = gradient.shape
    rule, cells, relevance = passing.rule, passing.cells, passing.rows
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
