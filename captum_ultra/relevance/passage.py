"""What the two operations that carry relevance share: how a layer's backward pass hands it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from captum_ultra.relevance.flow import Flow
from captum_ultra.relevance.ledger import Ledger

__all__ = ["Passage", "targets_first"]


@dataclass(frozen=True, eq=False)
class Passage:
    """Relevance on its way through the attention of one block.

    Attributes:
        ledger: of the trace; names the flow that is being pulled back.
        block: number of the block.
    """

    ledger: Ledger
    block: int

    def flow_met_by(self, gradient: Tensor | None) -> Flow:
        """The flow of the pull-back, to which a gradient must have come if its rule sees one.

        Raises:
            UnsupportedModelError: if something above cuts gradients off.
        """
        flow = self.ledger.flow
        assert flow is not None, "relevance is pulled back through captum_ultra.relevance.pullback alone"
        if flow.rule.sees != "nothing":
            self.ledger.check_connected(self.block, gradient)
        return flow

    def below(self, relevance: Tensor, adds: Callable[[Flow, Tensor], Tensor]) -> Tensor:
        """Rows below the layer [T, B, n] of those above; ``adds(flow, rows)`` is what each head adds [T, B, H, n]."""
        flow = self.ledger.flow
        assert flow is not None
        above = flow.arriving(self.block, relevance)
        added = adds(flow, above)
        added = added if flow.rule.sees == "nothing" else self.ledger.unscale(added)
        rows = flow.below(self.block, above, added)
        self.ledger.note_backward(self.block, rows)
        return rows


def targets_first(tensor: Tensor, dim: int | None, targets: int) -> Tensor:
    """The batched dimension that ``vmap`` hands over, as the leading one; expanded if there is none."""
    return tensor.expand(targets, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
