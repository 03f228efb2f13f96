"""Threads relevance through a model while it runs, and leaves the model exactly as it was.

``trace_relevance`` runs the model once. Hooks on the blocks say where the run stands; the
interceptor (see ``interception``) replaces the one attention of each block by an operation that
carries relevance. Whatever was changed is undone on every exit, exceptions included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.relevance.course import Course
from captum_ultra.relevance.stream import LastLayerReached
from captum_ultra.relevance.threader import Threader
from captum_ultra.relevance.trace import Trace

__all__ = ["frozen_in_eval_mode", "trace_relevance"]


def trace_relevance(
    run: Callable[[], Any], model: nn.Module, blocks: Sequence[nn.Module], course: Course, *,
    batch_first: bool = True, stop_early: bool = True, on_start: Callable[[Tensor], None] | None = None,
) -> Trace:  # fmt: skip
    """Run a model once and keep what the pull-backs from the layers of a course need.

    The model runs in evaluation mode, with gradients enabled and its parameters taken as
    constants; modes and flags are restored afterwards.

    Args:
        run: calls the model; its result is not used.
        model: the module whose flags and parameters are guarded; contains the blocks.
        blocks: the residual blocks in the order in which they run.
        course: what is followed, between which layers.
        batch_first: whether the residual stream is [B, n, d] (else [n, B, d]).
        stop_early: end the run after the highest layer asked for.
        on_start: called with the stream [B, n, d] before the first block runs; may raise.

    Raises:
        UnsupportedModelError: if a block does not run exactly once, does not run exactly one
            self-attention over all tokens, or changes the number of tokens.
        ValueError: if latents are not finite; names the layer.
    """
    threader = Threader(blocks, course, batch_first, stop_early, on_start or (lambda stream: None))
    with ExitStack() as scope:
        scope.enter_context(torch.inference_mode(False))
        scope.enter_context(torch.enable_grad())
        scope.enter_context(frozen_in_eval_mode(model))
        scope.enter_context(threader.hooked())
        scope.enter_context(threader.interceptor)
        with suppress(LastLayerReached):
            run()
    return threader.finish()


@contextmanager
def frozen_in_eval_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode and constant parameters, so that a run is reproducible and keeps no weight gradients."""
    training = [(module, module.training) for module in model.modules()]
    # By name: libraries that offload weights put other parameters in their place while the model runs.
    trainable = [
        (module, name)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if parameter.requires_grad
    ]
    try:
        for module, flag in training:
            if flag:
                module.training = False
        for module, name in trainable:
            module.get_parameter(name).requires_grad_(False)
        yield
    finally:
        for module, flag in training:
            module.training = flag
        for module, name in trainable:
            module.get_parameter(name).requires_grad_(True)
