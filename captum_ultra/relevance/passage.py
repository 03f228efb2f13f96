"""What the two operations that carry relevance share: how a layer's backward pass hands it on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from captum_ultra.relevance.flow import Flow
from captum_ultra.relevance.ledger import Ledger

__all__ = ["Passage"]


@dataclass(frozen=True, eq=False)
class Passage:
    """Relevance on its way through the attention of one block.

    Attributes:
        ledger: of the trace; names the flow that is being pulled back.
        block: number of the block.
    """

    ledger: Ledger
    block: int

    @property
    def flow(self) -> Flow:
        """The flow that is being pulled back."""
        flow = self.ledger.flow
        assert flow is not None, "relevance is pulled back through captum_ultra.relevance.pullback alone"
        return flow

    def check_connected(self, gradient: Tensor | None) -> None:
        """Raise if the flow's rule sees gradients and none came.

        Raises:
            UnsupportedModelError: if something above cuts gradients off.
        """
        if self.flow.rule.sees != "nothing":
            self.ledger.check_connected(self.block, gradient)

    def below(self, relevance: Tensor, adds: Callable[[Flow, Tensor], Tensor]) -> Tensor:
        """Rows below the layer [T, B, n] of those above; ``adds(flow, rows)`` is what each head adds [T, B, H, n]."""
        flow = self.flow
        above = flow.arriving(self.block, relevance)
        added = adds(flow, above)
        added = added if flow.rule.sees == "nothing" else self.ledger.unscale(added)
        rows = flow.below(self.block, above, added)
        self.ledger.note_backward(self.block, rows)
        return rows
