"""What a model makes of a residual stream: the rest of it behind its blocks, run on latents of any layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.relevance.scope import frozen_in_eval_mode
from captum_ultra.relevance.stream import with_first_tensor
from captum_ultra.relevance.trace import Trace

__all__ = ["through_tail"]


def through_tail(
    run: Callable[[], Any], model: nn.Module, blocks: Sequence[nn.Module], trace: Trace, layer: int
) -> Any:
    """What the model returns for the latents of a layer, as if they had left the last block.

    The blocks are passed over, so that this costs the embedding and the head. Gradients flow to the latents.

    Args:
        run: calls the model on the input of the trace.
        model: the module that is run; contains the blocks.
        blocks: all residual blocks in order.
        trace: a run that kept ``layer`` and went on to the last block.
        layer: number of blocks passed.
    """
    passed_on = with_first_tensor(trace.last_block_output, trace.streams[layer])
    with ExitStack() as scope:
        scope.enter_context(torch.inference_mode(False))
        scope.enter_context(torch.enable_grad())
        scope.enter_context(frozen_in_eval_mode(model))
        for block in blocks:
            scope.enter_context(_returning(block, passed_on))
        return run()


@contextmanager
def _returning(block: nn.Module, value: Tensor | Any) -> Iterator[None]:
    """Within, the block returns a value whatever it is given; a ``forward`` of the instance's own comes back after."""
    own = vars(block).get("forward")
    block.forward = lambda *args, **kwargs: value
    try:
        yield
    finally:
        del block.forward
        if own is not None:
            block.forward = own
