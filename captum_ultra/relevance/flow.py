"""How relevance goes down through the blocks of a run that is there already: chosen when it is pulled back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from torch import Tensor

from captum_ultra.relevance.rules import Rule

__all__ = ["Cells", "Flow"]


class Cells(Protocol):
    """One number for every entry of a layer's attention maps, made tile by tile."""

    def quotient(self, head: slice, rows: slice, keys: slice) -> Tensor:
        """A tile [g, rows, keys] of the B x H heads."""


@dataclass(frozen=True, eq=False)
class Flow:
    """What becomes of relevance in every block that it passes.

    Attributes:
        rule: what an attention head does to a relevance row.
        residual: whether the residual connection carries the relevance above along.
        cells: block -> what the rule sees is multiplied by this, entry by entry.
        keys: block -> [B, H, n], by which what each head adds to each key is multiplied.
        tokens: block -> [B, n], by which a row is multiplied before it meets the block's attention.
    """

    rule: Rule
    residual: bool = True
    cells: Mapping[int, Cells] = field(default_factory=dict)
    keys: Mapping[int, Tensor] = field(default_factory=dict)
    tokens: Mapping[int, Tensor] = field(default_factory=dict)

    def arriving(self, block: int, rows: Tensor) -> Tensor:
        """Rows [T, B, n] above the block, as they meet its attention."""
        return rows * self.tokens[block].to(rows) if block in self.tokens else rows

    def below(self, block: int, above: Tensor, added: Tensor) -> Tensor:
        """Rows below the block [T, B, n], of those above its attention and what each head adds [T, B, H, n]."""
        if block in self.keys:
            added = added * self.keys[block].to(added)
        mean = added.mean(2)
        return above + mean if self.residual else mean
