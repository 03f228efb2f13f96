"""Scaled dot-product attention between two cuts of a run: its backward pass, with the relevance that meets it.

Given the gradient dO of the output and the relevance rows R of the targets, by the rule of the flow:

    dA = dO V^T,    R <- R + mean_h rule(R, A, dA * A),    and the usual dq, dk, dv.
"""

from __future__ import annotations

import torch
from torch import Tensor

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.calls import AttentionCall
from captum_ultra.relevance.cuts import Passing, RowGradient
from captum_ultra.relevance.single_rows import row_backward
from captum_ultra.relevance.sinks import Sinks
from captum_ultra.relevance.tiles import tiled_backward, tiled_forward, tiled_values

__all__ = ["FusedAttention"]


class FusedAttention:
    """A call of ``scaled_dot_product_attention`` in a run that is cut.

    Args:
        call: the attention, in the graph of the run.
        constant: whether its probabilities are constants, so that the values alone have gradients.
        shares: factors of the gradients of queries, keys and values.

    Attributes:
        below: what gradients are pulled back to.
    """

    by_row = True

    def __init__(
        self, call: AttentionCall, *, constant: bool = False, shares: tuple[float, float, float] = (1, 1, 1)
    ) -> None:
        signals = (call.query, call.key, call.value)
        self._sinks = Sinks([each.detach() for each in signals[:2]] + [call.value] if constant else signals)
        self.below = self._sinks.edges
        self._constant, self._shares = constant, shares
        self._call = call.detached()
        self._versions = [each._version for each in signals]

    def attend(self) -> Tensor:
        """The output [B, H, n, d_v], by the fused kernel that the model itself would use."""
        with torch.no_grad():
            return self._call.attend()

    def back(
        self, gradient: Tensor | None, passing: Passing | None, wanted: bool
    ) -> tuple[list[Tensor], Tensor | None]:
        """See :class:`captum_ultra.relevance.cuts.Crossing`; gradients are [T, B, H, n, d_v]."""
        self._check_unchanged()
        wanted = wanted and bool(self.below)
        if gradient is None or (passing is not None and passing.rule.sees == "nothing" and not wanted):
            return [], None if passing is None else tiled_forward(passing.rows, self._call, passing.rule)
        if passing is None and self._constant:
            return self._filled([None, None, tiled_values(gradient, self._call)]), None
        *gradients, added = tiled_backward(gradient, self._call, passing, wanted=wanted)
        return self._filled(gradients) if wanted else [], added

    def back_by_row(self, gradient: RowGradient, passing: Passing | None) -> tuple[list[Tensor], Tensor | None]:
        """The same for one row a target."""
        self._check_unchanged()
        *gradients, added = row_backward(gradient, self._call, passing, values_alone=self._constant)
        return self._filled(gradients), added

    def _filled(self, gradients: list[Tensor | None]) -> list[Tensor]:
        for each, share in zip(gradients, self._shares, strict=True):
            if each is not None and share != 1:
                each.mul_(share)
        return self._sinks.filled(gradients)

    def _check_unchanged(self) -> None:
        signals = (self._call.query, self._call.key, self._call.value)
        if [each._version for each in signals] != self._versions:
            raise UnsupportedModelError(
                "the model changes its queries, keys or values in place after its attention, whose backward pass needs "
                "them: write the change (x += y) as an operation that returns a new tensor (x = x + y)"
            )
