"""What a model makes of a residual stream: the rest of it behind its blocks, run on latents of any layer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.relevance.explaining import explaining
from captum_ultra.relevance.walk import walk

__all__ = ["through_tail"]


def through_tail(
    run: Callable[[], Any], read: Callable[[Any], Tensor], model: nn.Module, blocks: Sequence[nn.Module],
    latents: Sequence[Tensor], *, batch_first: bool = True,
) -> list[Tensor]:  # fmt: skip
    """What is read off a model for the latents of several layers, as if they had left the last block.

    The layers are one batch behind the last block, so that all of them cost one run; where the rest of the model
    looks at the samples of its input once more (their lengths, their mask), each layer costs a run. Gradients flow
    to the latents.

    Args:
        run: calls the model on the input of the latents.
        read: from what the model returns to [B, K].
        model: the module that is run; contains the blocks.
        blocks: all residual blocks in order.
        latents: of each layer [B, n, d].
        batch_first: whether the model carries [B, n, d] (else [n, B, d]).
    """
    batch = len(latents[0])

    def behind_the_blocks(stream: Tensor) -> Tensor:
        def leave(index: int, block: nn.Module, _: Tensor) -> Tensor | None:
            return stream if index + 1 == len(blocks) else None

        with explaining(model), walk(blocks, batch_first=batch_first, leave=leave):
            return read(run())

    # A lone sample's mask fits the batch of its layers by broadcasting, and rightly so: they are one sample.
    try:
        found = behind_the_blocks(torch.cat(list(latents)))
    except (RuntimeError, IndexError, ValueError):
        found = latents[0].new_empty(0)
    if len(found) == batch * len(latents):
        return list(found.split(batch))
    return [behind_the_blocks(each) for each in latents]
