"""What is followed through a run: from where, to where, by which rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torch import Tensor

from captum_ultra.relevance.passage import Cells, Passage
from captum_ultra.relevance.rules import Rule

__all__ = ["BlockObserver", "Course"]


class BlockObserver(Protocol):
    """Sees what the followed blocks do beside their attention, and may change the relevance between them."""

    def enter(self, block: int, name: str, stream: Tensor, relevance: Tensor) -> Tensor:
        """Before a block runs on its stream; returns the relevance that goes into the block."""

    def attended(self, value: Tensor, output: Tensor, passage: Passage) -> None:
        """After an attention [B, H, n, d_v] of values [B, G, n, d_v]."""

    def called(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """After any other torch function inside the block."""

    def leave(self, stream: Tensor, relevance: Tensor) -> Tensor:
        """After the block; returns the relevance that leaves it."""


@dataclass(frozen=True)
class Course:
    """How relevance is followed through one run.

    Attributes:
        rule: what an attention head does to a relevance row.
        layers: numbers of blocks passed, from ``first`` on, whose latents and relevance are kept.
        first: the block at which relevance begins; the model is left alone below it.
        separate: every block has a relevance vector of its own, of which only what the heads add goes through, in
            place of one through all blocks.
        cut: where the residual stream becomes a leaf of the graph: "nowhere", below the "first" block
            (latents there have gradients then), or below "every" block.
        observer: sees the other operations of the blocks.
        cells: block -> factors of what the rule sees in that block's attention maps, entry by entry; may be filled
            after the run, before the pull-back.
    """

    rule: Rule
    layers: Sequence[int]
    first: int = 0
    separate: bool = False
    cut: Literal["nowhere", "first", "every"] = "nowhere"
    observer: BlockObserver | None = None
    cells: Mapping[int, Cells] = field(default_factory=dict)

    def begins_at(self, block: int) -> bool:
        """Whether a relevance vector begins below a block."""
        return block == self.first or (self.separate and block > self.first)

    def cuts_at(self, block: int) -> bool:
        """Whether the stream below a block becomes a leaf."""
        return (self.cut != "nowhere" and block == self.first) or (self.cut == "every" and block > self.first)
