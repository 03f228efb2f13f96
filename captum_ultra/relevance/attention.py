"""Scaled dot-product attention between two cuts of a run: its backward pass, with the relevance that meets it.

Given the gradient dO of the output and the relevance rows R of the targets, by the rule of the flow:

    dA = dO V^T,    R <- R + mean_h rule(R, A, dA * A),    and the usual dq, dk, dv.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.calls import AttentionCall
from captum_ultra.relevance.cuts import Passing, Pulled, RowGradient
from captum_ultra.relevance.projections import Projections
from captum_ultra.relevance.single_rows import OuterProducts, row_backward
from captum_ultra.relevance.sinks import Sinks
from captum_ultra.relevance.tiles import tiled_backward, tiled_forward, tiled_values

__all__ = ["FusedAttention"]


class FusedAttention:
    """A call of ``scaled_dot_product_attention`` in a run that is cut.

    Args:
        call: the attention, in the graph of the run.
        projections: the linear layers that its queries, keys and values may come out of.
        constant: whether its probabilities are constants, so that the values alone have gradients.
        shares: factors of the gradients of queries, keys and values.

    Attributes:
        below: what gradients are pulled back to.
    """

    by_row = True

    def __init__(
        self, call: AttentionCall, projections: Projections | None = None, *, constant: bool = False,
        shares: tuple[float, float, float] = (1, 1, 1),
    ) -> None:  # fmt: skip
        signals = (call.query, call.key, call.value)
        of = (None, None, call.value) if constant else signals
        self._projected = [None if each is None or projections is None else projections.of(each) for each in of]
        past = [None if known else each for each, known in zip(of, self._projected, strict=True)]
        self._sinks, self._unprojected = Sinks(of), Sinks(past)
        self.below = self._sinks.edges
        self._constant, self._shares = constant, shares
        self._call = call.detached()
        self._versions = [each._version for each in signals]

    def attend(self) -> Tensor:
        """The output [B, H, n, d_v], by the fused kernel that the model itself would use."""
        with torch.no_grad():
            return self._call.attend()

    def back(self, gradient: Tensor | None, passing: Passing | None, wanted: bool) -> tuple[Pulled, Tensor | None]:
        """See :class:`captum_ultra.relevance.cuts.Crossing`; gradients are [T, B, H, n, d_v]."""
        self._check_unchanged()
        wanted = wanted and bool(self.below)
        if gradient is None or (passing is not None and passing.rule.sees == "nothing" and not wanted):
            return [], None if passing is None else tiled_forward(passing.rows, self._call, passing.rule)
        if passing is None and self._constant:
            return self._through_values(tiled_values(gradient, self._call)), None
        *gradients, added = tiled_backward(gradient, self._call, passing, wanted=wanted)
        return self._filled(gradients, self._sinks) if wanted else [], added

    def back_by_row(self, gradient: RowGradient, passing: Passing | None) -> tuple[Pulled, Tensor | None]:
        """The same for one row a target."""
        self._check_unchanged()
        rows = row_backward(gradient, self._call, passing)
        products = (None, None, rows.values) if self._constant else (rows.queries, rows.keys, rows.values)
        joined: dict[GradientEdge, list[OuterProducts]] = {}
        rest: list[Tensor | None] = [None] * 3
        for place, (product, projected) in enumerate(zip(products, self._projected, strict=True)):
            if product is not None and projected is not None:
                of_tokens = product.through(projected.weight * self._shares[place])
                joined.setdefault(projected.edge, []).append(of_tokens)
            elif product is not None:
                rest[place] = product.whole()
        dtype = self._call.query.dtype
        past = [(edge, OuterProducts.joined(each).whole().squeeze(2).to(dtype)) for edge, each in joined.items()]
        return past + self._filled(rest, self._unprojected), rows.added

    def _through_values(self, gradient: Tensor) -> Pulled:
        """Of the gradient of the values [T, B, G, n, d_v] alone."""
        projected = self._projected[2]
        if projected is None:
            return self._filled([None, None, gradient], self._sinks)
        joined = gradient.transpose(2, 3).flatten(3)
        return [(projected.edge, (joined @ projected.weight.flatten(0, 1).to(joined)).to(self._call.value.dtype))]

    def _filled(self, gradients: Sequence[Tensor | None], sinks: Sinks) -> Pulled:
        for each, share in zip(gradients, self._shares, strict=True):
            if each is not None and share != 1:
                each.mul_(share)
        return sinks.filled(gradients)

    def _check_unchanged(self) -> None:
        signals = (self._call.query, self._call.key, self._call.value)
        if [each._version for each in signals] != self._versions:
            raise UnsupportedModelError(
                "the model changes its queries, keys or values in place after its attention, whose backward pass needs "
                "them: write the change (x += y) as an operation that returns a new tensor (x = x + y)"
            )
