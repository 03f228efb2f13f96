"""What the two operations that carry relevance share: how a layer's backward pass hands it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from captum_ultra.relevance.ledger import Ledger
from captum_ultra.relevance.rules import Rule

__all__ = ["Cells", "Passage", "targets_first"]


class Cells(Protocol):
    """One number for every entry of a layer's attention maps, made tile by tile."""

    def quotient(self, head: slice, rows: slice, keys: slice) -> Tensor:
        """A tile [g, rows, keys] of the B x H heads."""


@dataclass(eq=False)
class Passage:
    """Relevance on its way through the attention of one block.

    Attributes:
        rule: what a head adds to a relevance row.
        ledger: of the trace.
        block: number of the block.
        residual: whether the residual connection carries the relevance above along.
        key_weights: [B, H, n], by which what each head adds to each key is multiplied; known only when
            the block has run on beyond its attention, and None for most methods.
        cells: block -> what the rule sees is multiplied by this, entry by entry; looked up when relevance comes by.
    """

    rule: Rule
    ledger: Ledger
    block: int
    residual: bool = field(default=True, kw_only=True)
    key_weights: Tensor | None = field(default=None, kw_only=True)
    cells: Mapping[int, Cells] = field(default_factory=dict, kw_only=True)

    def below(self, above: Tensor, added: Tensor) -> Tensor:
        """Rows below the layer [T, B, n], of those above it and what the rule adds in each head [T, B, H, n]."""
        if self.key_weights is not None:
            added = added * self.key_weights.to(added)
        mean = added.mean(2)
        rows = mean if self.rule.sees == "nothing" else self.ledger.unscale(mean)
        rows = above + rows if self.residual else rows
        self.ledger.note_backward(self.block, rows)
        return rows


def targets_first(tensor: Tensor, dim: int | None, targets: int) -> Tensor:
    """The batched dimension that ``vmap`` hands over, as the leading one; expanded if there is none."""
    return tensor.expand(targets, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
