"""One run of a model that is followed, and what it leaves behind for the pull-backs from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor, nn

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.cuts import Cuts
from captum_ultra.relevance.explaining import explaining
from captum_ultra.relevance.ledger import Ledger
from captum_ultra.relevance.walk import LastLayerReached, walk

__all__ = ["Graph", "Trace", "check_connected", "trace_run"]


@dataclass
class Trace:
    """One run of a model.

    Attributes:
        first: the block from which on it was followed.
        by_token: whether it is known that, beside their attention, its blocks work token by token.
        latents: layer -> residual stream [B, n, d] after so many blocks (0: the embedding); that of the layer
            ``first`` is a leaf below which nothing is followed, the others too where the run is cut.
        left: layer -> the same as it left the block, below a cut.
        cuts: where the run is cut; none in graphs that are pulled back as a whole.
        widest: numbers of the largest array that a linear layer of its blocks put out, of all samples.
        ledger: gradient scale and finiteness flags.
    """

    first: int = 0
    by_token: bool = False
    widest: int = 0
    latents: dict[int, Tensor] = field(default_factory=dict)
    left: dict[int, Tensor] = field(default_factory=dict)
    cuts: Cuts = field(default_factory=Cuts)
    ledger: Ledger = field(default_factory=Ledger)

    def begin(self, stream: Tensor) -> Tensor:
        """Make the stream [B, n, d] that enters the first block a leaf; returns what the block gets, safe to change."""
        leaf = stream.detach().requires_grad_()
        self.keep(self.first, leaf)
        return leaf.clone()

    def cut(self, layer: int, stream: Tensor, *, keep: bool = True, through: bool = False) -> Tensor:
        """Cut the stream [B, n, d] after so many blocks; returns what the run goes on with, safe to change.

        Args:
            layer: number of blocks passed.
            stream: as it leaves a block, or enters the first.
            keep: whether the latents of the layer will be asked for.
            through: see :meth:`captum_ultra.relevance.cuts.Cuts.stream`.
        """
        above = self.cuts.stream(stream, layer, through)
        if keep:
            self.left[layer] = stream
            self.keep(layer, above)
        else:
            self.ledger.note_forward(layer, stream)
        return above.clone()

    def keep(self, layer: int, stream: Tensor) -> None:
        """Keep the stream [B, n, d] of a layer."""
        self.latents[layer] = stream
        self.ledger.note_forward(layer, stream)


class Graph(Protocol):
    """What a run is made into while it is followed, as a context: which operations have another backward pass."""

    def __enter__(self) -> Any: ...

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> Any: ...

    def begin(self, trace: Trace, stream: Tensor) -> Tensor:
        """Before the first block that is followed; returns the stream that it gets."""

    def enter(self, index: int, block: nn.Module, stream: Tensor) -> None:
        """Before a block."""

    def leave(self, trace: Trace, index: int, block: nn.Module, stream: Tensor, wanted: bool) -> Tensor | None:
        """After a block, whose latents are wanted or not; returns the stream that the run goes on with."""


def trace_run(
    run: Callable[[], Any], model: nn.Module, blocks: Sequence[nn.Module], graph: Graph,
    layers: Sequence[int], *, first: int = 0, batch_first: bool = True, stop_early: bool = True,
    by_token: bool = False, on_start: Callable[[Tensor], None] | None = None,
) -> Trace:  # fmt: skip
    """Run a model once, through a graph, and keep the latents of some layers.

    The model runs in evaluation mode, with gradients enabled and its parameters taken as
    constants; modes and flags are restored afterwards.

    Args:
        run: calls the model; its result is not used.
        model: the module whose flags and parameters are guarded; contains the blocks.
        blocks: the residual blocks in the order in which they run.
        graph: what becomes of the run's operations; a context manager.
        layers: numbers of blocks passed, from ``first`` on.
        first: the block at which following begins; the model is left alone below it.
        batch_first: whether the residual stream is [B, n, d] (else [n, B, d]).
        stop_early: end the run after the highest layer.
        by_token: whether it is known that, beside their attention, the blocks work token by token.
        on_start: called with the stream [B, n, d] before the first block runs; may raise.

    Raises:
        UnsupportedModelError: if a block does not run exactly once, or cannot be followed.
        ValueError: if latents are not finite; names the layer.
    """
    trace, wanted, last = Trace(first, by_token), set(layers), max(layers)

    def enter(index: int, block: nn.Module, stream: Tensor) -> Tensor | None:
        if index == 0 and on_start is not None:
            on_start(stream)
        if index < first or index > last:
            return None
        began = index == first
        if began:
            stream = graph.begin(trace, stream)
        else:
            check_connected(stream, f"the input of block {index} ({type(block).__name__})")
        if index < last:
            graph.enter(index, block, stream)
        return stream if began else None

    def leave(index: int, block: nn.Module, stream: Tensor) -> Tensor | None:
        if index < first or index >= last:
            return None
        check_connected(stream, f"the output of block {index} ({type(block).__name__})")
        return graph.leave(trace, index, block, stream, index + 1 in wanted)

    # Behind the last block the run goes on: it might enter the blocks again, which the walk refuses.
    stop = last if stop_early and last < len(blocks) else None
    with (
        graph, explaining(model), walk(blocks, batch_first=batch_first, enter=enter, leave=leave, last=stop) as walked,
    ):  # fmt: skip
        walked.last = last
        with suppress(LastLayerReached):
            run()
    walked.check_ended()
    trace.ledger.check_forward()
    return trace


def check_connected(carried: Tensor, place: str) -> None:
    """Raise where a tensor needs no gradient, although attention that carries relevance lies below it.

    Raises:
        UnsupportedModelError: names the place and what cuts gradients off.
    """
    if not carried.requires_grad:
        raise UnsupportedModelError(
            f"{place} is cut off from the attention below it: the model switches gradients off (torch.no_grad, "
            "detach) or runs quantised kernels that have no backward pass. Explain it without them, in float32 or "
            "bfloat16"
        )
