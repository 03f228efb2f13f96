"""The residual stream after a number of blocks, read and nothing else."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from torch import Tensor, nn

from captum_ultra.adapters.view import TransformerView
from captum_ultra.relevance.walk import LastLayerReached, walk

__all__ = ["stream_after"]


def stream_after(view: TransformerView, number: int, inputs: Tensor, extra: Any) -> Tensor:
    """The residual stream [B, n, d] after a number of blocks, with whatever graph the run has.

    Raises:
        UnsupportedModelError: if blocks before that do not run once and in order.
    """
    seen: list[Tensor] = []

    def enter(index: int, block: nn.Module, stream: Tensor) -> None:
        if index == number == 0:
            seen.append(stream.clone())

    def leave(index: int, block: nn.Module, stream: Tensor) -> None:
        if index + 1 == number:
            seen.append(stream.clone())  # the next block may change its own in place

    last = number if view.stop_early else None
    with walk(view.blocks, batch_first=view.batch_first, enter=enter, leave=leave, last=last) as walked:
        with suppress(LastLayerReached):
            view.call(view.model, inputs.clone(), extra)
        walked.last = max(number, 1 - len(seen))  # the embedding is seen when the first block begins
    walked.check_ended()
    return seen[0]
