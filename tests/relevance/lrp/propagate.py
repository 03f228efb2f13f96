"""Relevance of the input of any module, by the engine's own parts: for models without blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.relevance import trace_run
from captum_ultra.relevance.lrp import Propagation

__all__ = ["input_relevance"]


def input_relevance(
    run: Callable[[Tensor], Any], model: nn.Module, inputs: Tensor, explained: Callable[[Any], Tensor],
    published: bool = False,
) -> Tensor:  # fmt: skip
    """Relevance in the shape of the inputs [B, ...], which starts as 1 at one scalar a sample.

    Args:
        run: runs the model on the inputs.
        model: the module whose flags and parameters are guarded.
        inputs: of the model.
        explained: from what the model returns to [B].
        published: as in :class:`captum_ultra.relevance.lrp.Propagation`.
    """
    graph, outputs, leaf = Propagation(model, published), list[Tensor](), inputs.detach().clone().requires_grad_()
    signal = graph.begin_with_pixels(leaf)

    def to_the_end() -> None:
        outputs.append(explained(run(signal)))
        graph.check_seen(outputs[0])

    trace_run(to_the_end, model, [], graph, [0], stop_early=False)
    (relevance,) = torch.autograd.grad(outputs[0].sum(), leaf)
    return relevance
