"""What the two operations that carry relevance share: how a layer's backward pass hands it on."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from captum_ultra.relevance.ledger import Ledger
from captum_ultra.relevance.rules import Rule

__all__ = ["Passage", "targets_first"]


@dataclass(frozen=True)
class Passage:
    """Relevance on its way through the attention of one block."""

    rule: Rule
    ledger: Ledger
    block: int

    def below(self, above: Tensor, added: Tensor) -> Tensor:
        """Rows below the layer [T, B, n]: the residual connection, and the mean over heads of the rule."""
        rows = above + self.ledger.unscale(added)
        self.ledger.note_backward(self.block, rows)
        return rows


def targets_first(tensor: Tensor, dim: int | None, targets: int) -> Tensor:
    """The batched dimension that ``vmap`` hands over, as the leading one; expanded if there is none."""
    return tensor.expand(targets, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
