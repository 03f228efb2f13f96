"""Down through a run that was cut: gradients of many targets from cut to cut, and relevance through its attention."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from captum_ultra.relevance.autograd_errors import vectorised
from captum_ultra.relevance.cuts import Cut, Passing, Pulled, RowGradient
from captum_ultra.relevance.flow import Flow
from captum_ultra.relevance.trace import Trace

__all__ = ["Descent", "pull"]

Gradient = Tensor | RowGradient


def pull(outputs: Pulled, inputs: Sequence[GradientEdge]) -> list[Tensor | None]:
    """Gradients [T, ...] of inputs, of those of outputs; None for those on which these do not depend."""
    found: list[bool] = []
    edges, gradients = zip(*outputs, strict=True)

    def one(*cotangents: Tensor) -> tuple[Tensor, ...]:
        pulled = torch.autograd.grad(edges, inputs, cotangents, retain_graph=True, allow_unused=True)
        found[:] = [each is not None for each in pulled]
        return tuple(each for each in pulled if each is not None)

    if len(gradients[0]) == 1:  # a single target needs no vectorisation at all
        pulled = iter([each[None] for each in one(*(each[0] for each in gradients))])
    else:
        with vectorised():
            pulled = iter(torch.func.vmap(one)(*gradients))
    return [next(pulled) if each else None for each in found]


@dataclass(frozen=True, eq=False)
class Descent:
    """A way down through a run.

    Attributes:
        trace: the run, which was cut.
        flow: what becomes of relevance on its way; None where only gradients are asked for.
        begins: number of blocks passed where relevance begins.
        to: the block below which it ends.
        read: called with a layer and the gradient [T, B, n, d] of its stream, for every layer from ``to`` on.
    """

    trace: Trace
    flow: Flow | None = None
    begins: int = 0
    to: int = 0
    read: Callable[[int, Tensor], None] | None = None

    def go(self, gradients: Mapping[int, Gradient], rows: Tensor | None = None) -> Tensor | None:
        """Relevance rows [T, B, n] below the block ``to``, of those where relevance begins.

        Args:
            gradients: number of a cut -> the gradient [T, ...] of what the run goes on with there.
            rows: of the targets.
        """
        waiting, cuts, lowest = dict(gradients), self.trace.cuts, self._lowest()
        cuts.latch.closed = True
        try:
            for number in reversed(range(lowest, len(cuts))):
                cut, gradient = cuts[number], waiting.pop(number, None)
                below = [each for each in cut.reaches if each >= lowest]
                if cut.crossing is None:
                    assert not isinstance(gradient, RowGradient)
                    if self.read is not None and cut.layer is not None and gradient is not None:
                        self.read(cut.layer, gradient)
                    passed = [] if gradient is None else [(edge, gradient) for edge in cut.below]
                else:
                    passed, rows = self._cross(cut, gradient, rows, bool(below))
                del gradient
                if passed and below:
                    self._pull(passed, below, waiting)
        finally:
            cuts.latch.closed = False
        return rows

    def _lowest(self) -> int:
        """The lowest cut that is needed: the attention of a block for relevance, its stream for gradients."""
        cuts = self.trace.cuts
        if self.read is not None or self.flow is None:
            return cuts.at_layer(self.to)
        return next(number for number in range(len(cuts)) if cuts[number].block == self.to)

    def _pull(self, passed: Pulled, below: list[int], waiting: dict[int, Gradient]) -> None:
        """Add to what waits at cuts below what comes down to them."""
        cuts = self.trace.cuts
        for number, found in zip(below, pull(passed, [cuts[each].above for each in below]), strict=True):
            if found is not None:
                before = waiting.get(number)
                assert not isinstance(before, RowGradient)
                # Not in place: what comes down a sum may be one tensor for both of its parts.
                waiting[number] = found if before is None else before + found

    def _cross(
        self, cut: Cut, gradient: Gradient | None, rows: Tensor | None, wanted: bool
    ) -> tuple[Pulled, Tensor | None]:
        """Through an attention: gradients below it, and the rows below its block."""
        assert cut.crossing is not None
        flow, block, ledger = self.flow, cut.block, self.trace.ledger
        if flow is None or rows is None or block is None or block >= self.begins:
            if isinstance(gradient, RowGradient):
                return cut.crossing.back_by_row(gradient, None)[0], rows
            return ([] if gradient is None else cut.crossing.back(gradient, None, wanted)[0]), rows
        if gradient is None and flow.rule.sees != "nothing":
            ledger.check_connected(block, None)
        above = flow.arriving(block, rows.to(cut.device))
        passing = Passing(flow.rule, above, flow.cells.get(block))
        if isinstance(gradient, RowGradient) and passing.cells is not None:  # which are made by tiles
            gradient = gradient.whole(above.shape[2])
        found: Pulled
        if isinstance(gradient, RowGradient):
            found, added = cut.crossing.back_by_row(gradient, passing)
        elif gradient is None and flow.rule.sees != "nothing":  # of interventions that cut the block off
            found, added = [], above[:, :, None] * 0
        else:
            found, added = cut.crossing.back(gradient, passing, wanted)
        assert added is not None
        added = added if flow.rule.sees == "nothing" else ledger.unscale(added)
        below = flow.below(block, above, added)
        ledger.note_backward(block, below)
        return found, below
