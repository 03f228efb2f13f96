"""Where a run is cut, so that what lies between two cuts can be pulled back by itself.

A run is cut where its residual stream leaves a block and at what its attention gives: above a cut it goes on with
a leaf of the same values. A pull-back goes down from cut to cut. Between two of them it is autograd's, for many targets
at once; at an attention it is ours, which carries relevance along. Any graph can be cut like this: what passes by a
cut (a skip around a block, keys of an earlier one) is found at the next one below it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from captum_ultra.relevance.flow import Cells
from captum_ultra.relevance.graph import nodes_below
from captum_ultra.relevance.rules import Rule

__all__ = ["Crossing", "Cut", "Cuts", "Passing", "Pulled", "RowGradient"]


@dataclass(frozen=True, eq=False)
class Passing:
    """Relevance that meets an attention.

    Attributes:
        rule: what a head does to a relevance row.
        rows: relevance of the tokens above [T, B, n].
        cells: what the rule sees is multiplied by this, entry by entry.
    """

    rule: Rule
    rows: Tensor
    cells: Cells | None = None


@dataclass(frozen=True, eq=False)
class RowGradient:
    """The gradient of an attention's output of targets that reach one query row each.

    Attributes:
        values: [T, B, H, d_v].
        tokens: which row [T, B].
    """

    values: Tensor
    tokens: Tensor

    def whole(self, rows: int) -> Tensor:
        """The same among so many rows, [T, B, H, n, d_v]."""
        targets, batch, heads, d_v = self.values.shape
        index = self.tokens[:, :, None, None, None].expand(-1, -1, heads, -1, d_v)
        return self.values.new_zeros(targets, batch, heads, rows, d_v).scatter_(3, index, self.values.unsqueeze(3))


Pulled = list[tuple[GradientEdge, Tensor]]
"""Places in a graph, and their gradients [T, ...]."""


class Crossing(Protocol):
    """An attention between two cuts.

    Attributes:
        below: what its output was made of, on which all that it pulls back to depends.
        by_row: whether row i of the output is made of row i of the queries alone, so that :meth:`back_by_row` exists.
    """

    below: tuple[GradientEdge, ...]
    by_row: bool

    def back(self, gradient: Tensor | None, passing: Passing | None, wanted: bool) -> tuple[Pulled, Tensor | None]:
        """Pull back the gradient [T, ...] of the output, and the relevance that meets it.

        Args:
            gradient: None where none arrives.
            passing: None where only gradients are asked for.
            wanted: whether gradients are asked for, below.

        Returns:
            The gradients of what the output was made of, or none of them; and what each head adds to the relevance
            [T, B, H, n].
        """

    def back_by_row(self, gradient: RowGradient, passing: Passing | None) -> tuple[Pulled, Tensor | None]:
        """The same of targets with one row each."""


@dataclass(eq=False)
class Cut:
    """One place where a run is cut.

    Attributes:
        above: what the run goes on with.
        below: what that was, in the graph below the cut.
        layer: of the residual stream, number of blocks passed; None for an attention.
        crossing: the attention; None for the stream.
        block: of an attention that carries relevance, its number.
        device: of its values.
        reaches: numbers of the cuts on which what lies below depends directly.
    """

    above: GradientEdge
    below: tuple[GradientEdge, ...]
    device: torch.device
    layer: int | None = None
    crossing: Crossing | None = None
    block: int | None = None
    reaches: list[int] = field(default_factory=list)


class Latch:
    """Whether cuts that a run goes through are closed to gradients."""

    closed = False


class Cuts:
    """The cuts of one run, in the order in which it came by."""

    def __init__(self) -> None:
        self._all: list[Cut] = []
        self._nodes: dict[Any, int] = {}
        self.latch = Latch()

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, number: int) -> Cut:
        return self._all[number]

    def at_layer(self, layer: int) -> int:
        """The number of the first cut of the stream after so many blocks."""
        return next(number for number, cut in enumerate(self._all) if cut.layer == layer)

    def stream(self, stream: Tensor, layer: int, through: bool = False) -> Tensor:
        """Cut the residual stream; returns what the run goes on with.

        Args:
            stream: [B, n, d].
            layer: number of blocks passed.
            through: whether gradients that somebody else pulls back go through the cut; else it is a leaf.
        """
        below = (get_gradient_edge(stream),) if stream.requires_grad else ()
        above = self._above(stream, through and bool(below))
        self._add(Cut(get_gradient_edge(above), below, stream.device, layer))
        return above

    def attention(self, output: Tensor, crossing: Crossing, block: int | None, through: bool = False) -> Tensor:
        """Cut what an attention gives; arguments as in :meth:`stream`, and the attention with its block."""
        above = self._above(output, through and output.requires_grad)
        self._add(Cut(get_gradient_edge(above), crossing.below, output.device, crossing=crossing, block=block))
        return above

    def fresh_attention(self, output: Tensor, crossing: Crossing, block: int | None) -> Tensor:
        """Cut what an attention gives, a new tensor in no graph; returns what the run goes on with, safe to change."""
        leaf = output.new_zeros(()).expand(output.shape).requires_grad_()  # one number: its values are never looked at
        self._add(Cut(get_gradient_edge(leaf), crossing.below, output.device, crossing=crossing, block=block))
        standing: Tensor = _Standing.apply(leaf, [output])
        return standing

    def reached_by(self, edges: Sequence[GradientEdge]) -> list[int]:
        """Numbers of the cuts on which results depend directly, by no other cut in between."""
        found = set()
        for node in nodes_below([edge.node for edge in edges], self._nodes):
            if node in self._nodes:
                found.add(self._nodes[node])
        return sorted(found)

    def _above(self, value: Tensor, through: bool) -> Tensor:
        if through:
            gated: Tensor = _Gate.apply(value, self.latch)
            return gated
        return value.detach().requires_grad_()

    def _add(self, cut: Cut) -> None:
        cut.reaches = self.reached_by(cut.below)
        self._nodes[cut.above.node] = len(self._all)
        self._all.append(cut)


class _Standing(torch.autograd.Function):
    """A value that nobody else holds, in the graph as if it were made of a leaf; no copy, safe to change in place."""

    @staticmethod
    def forward(ctx: Any, leaf: Tensor, holder: list[Tensor]) -> Tensor:
        ctx.set_materialize_grads(False)  # a gradient that never arrives is not one that is zero
        return holder.pop()

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0], None


class _Gate(torch.autograd.Function):
    """The identity, through which gradients go as long as its latch is open."""

    @staticmethod
    def forward(ctx: Any, value: Tensor, latch: Latch) -> Tensor:
        ctx.latch = latch
        ctx.set_materialize_grads(False)  # a gradient that never arrives is not one that is zero
        return value.view_as(value)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return None if ctx.latch.closed else grads[0], None
