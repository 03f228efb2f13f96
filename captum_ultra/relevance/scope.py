"""Threads relevance through a model while it runs, and leaves the model exactly as it was.

``trace_relevance`` runs the model once. Hooks on the blocks say where the run stands; the
interceptor (see ``interception``) replaces the one attention of each block by an operation that
carries relevance. Whatever was changed is undone on every exit, exceptions included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.interception import AttentionInterceptor
from captum_ultra.relevance.ledger import Ledger
from captum_ultra.relevance.rules import Rule
from captum_ultra.relevance.stream import LastLayerReached, first_tensor

__all__ = ["Trace", "check_connected", "frozen_in_eval_mode", "trace_relevance"]


@dataclass
class Trace:
    """One run of a model with relevance threaded through it.

    Attributes:
        source: [B, n], the relevance below the first block; the leaf of every pull-back.
        latents: layer -> residual stream [B, n, d] after so many blocks (0: the embedding).
        relevance: layer -> the relevance vector [B, n] at the same place.
        ledger: gradient scale and finiteness flags.
    """

    source: Tensor
    latents: dict[int, Tensor] = field(default_factory=dict)
    relevance: dict[int, Tensor] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)

    @classmethod
    def begin(cls, stream: Tensor) -> Trace:
        """A trace that starts at the stream [B, n, d] which the first block receives."""
        dtype = torch.promote_types(stream.dtype, torch.float32)
        source = torch.zeros(stream.shape[:2], dtype=dtype, device=stream.device, requires_grad=True)
        trace = cls(source)
        trace.keep(0, stream, source)
        return trace

    def keep(self, layer: int, stream: Tensor, relevance: Tensor) -> None:
        """Keep what a pull-back from ``layer`` needs: the stream [B, n, d] and the relevance [B, n]."""
        self.latents[layer], self.relevance[layer] = stream, relevance
        self.ledger.note_forward(layer, stream)


def trace_relevance(
    run: Callable[[], Any], model: nn.Module, blocks: Sequence[nn.Module], layers: Sequence[int], rule: Rule,
    *, batch_first: bool = True, stop_early: bool = True, on_start: Callable[[Tensor], None] | None = None,
) -> Trace:  # fmt: skip
    """Run a model once and keep what the pull-backs from ``layers`` need.

    The model runs in evaluation mode, with gradients enabled and its parameters taken as
    constants; modes and flags are restored afterwards.

    Args:
        run: calls the model; its result is not used.
        model: the module whose flags and parameters are guarded; contains the blocks.
        blocks: the residual blocks in the order in which they run.
        layers: numbers of blocks passed, each 0..len(blocks).
        rule: what an attention head does to a relevance row.
        batch_first: whether the residual stream is [B, n, d] (else [n, B, d]).
        stop_early: end the run after the highest layer asked for.
        on_start: called with the stream [B, n, d] before the first block runs; may raise.

    Raises:
        UnsupportedModelError: if a block does not run exactly once, does not run exactly one
            self-attention over all tokens, or changes the number of tokens.
        ValueError: if latents are not finite; names the layer.
    """
    threader = _Threader(blocks, layers, rule, batch_first, stop_early, on_start or (lambda stream: None))
    with ExitStack() as scope:
        scope.enter_context(torch.inference_mode(False))
        scope.enter_context(torch.enable_grad())
        scope.enter_context(frozen_in_eval_mode(model))
        scope.enter_context(threader.hooked())
        scope.enter_context(threader.interceptor)
        with suppress(LastLayerReached):
            run()
    return threader.finish()


class _Threader:
    """The bookkeeping of one run: which block is running, and the relevance that has come so far."""

    def __init__(
        self, blocks: Sequence[nn.Module], layers: Sequence[int], rule: Rule, batch_first: bool, stop_early: bool,
        on_start: Callable[[Tensor], None],
    ) -> None:  # fmt: skip
        self.blocks, self.layers, self.batch_first, self.on_start = blocks, set(layers), batch_first, on_start
        self.last = max(max(layers), 1) if stop_early else len(blocks)
        self.passed = 0
        self.trace: Trace | None = None
        self.interceptor = AttentionInterceptor(rule)

    @contextmanager
    def hooked(self) -> Iterator[None]:
        handles = []
        try:
            for index, block in enumerate(self.blocks):
                handles.append(block.register_forward_pre_hook(self._enter(index), with_kwargs=True))
                handles.append(block.register_forward_hook(self._leave(index)))
            yield
        finally:
            for handle in handles:
                handle.remove()

    def finish(self) -> Trace:
        if self.trace is None or self.passed < self.last:
            raise UnsupportedModelError(
                f"only {self.passed} of the {self.last} blocks needed were run by the model; "
                "pass the ordered list of residual blocks that this input really goes through as blocks=..."
            )
        self.trace.ledger.check_forward()
        return self.trace

    def _enter(self, index: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            if index != self.passed:
                raise UnsupportedModelError(
                    f"block {index} ({type(module).__name__}) ran out of order or more than once, after "
                    f"{self.passed} blocks; shared or re-entered blocks cannot be told apart: "
                    "pass blocks=... with modules that run once each, in order"
                )
            stream = self._batch_first(first_tensor((*args, *kwargs.values())), module)
            if self.trace is None:
                self._begin(stream)
            else:
                check_connected(stream, f"the input of block {index} ({type(module).__name__})")
            self.interceptor.enter(index, module)

        return hook

    def _leave(self, index: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            assert self.trace is not None
            stream = self._batch_first(first_tensor(output), module)
            if stream.shape[:2] != self.trace.source.shape:
                raise UnsupportedModelError(
                    f"block {index} ({type(module).__name__}) turns {tuple(self.trace.source.shape)} "
                    f"(batch, tokens) into {tuple(stream.shape[:2])}; models that merge, pool or drop tokens "
                    "between blocks cannot be explained token by token: pass a part of the model where the "
                    "number of tokens stays constant as blocks=..."
                )
            relevance = self.interceptor.leave()
            for carried in (stream, relevance):
                check_connected(carried, f"the output of block {index} ({type(module).__name__})")
            self.passed = index + 1
            if self.passed in self.layers:
                self.trace.keep(self.passed, stream, relevance)
            else:
                self.trace.ledger.note_forward(self.passed, stream)
            if self.passed == self.last < len(self.blocks):
                raise LastLayerReached

        return hook

    def _begin(self, stream: Tensor) -> None:
        self.on_start(stream)
        self.trace = Trace.begin(stream)
        self.interceptor.begin(self.trace.source, self.trace.ledger)

    def _batch_first(self, stream: Tensor | None, block: nn.Module) -> Tensor:
        if stream is None or stream.dim() != 3 or not stream.is_floating_point():
            found = "no tensor" if stream is None else f"a tensor of shape {tuple(stream.shape)}"
            raise UnsupportedModelError(
                f"{type(block).__name__} carries {found} where a residual stream [batch, tokens, channels] is "
                "expected; convolutional, windowed and graph models have no such stream: pass the modules that "
                "do as blocks=..."
            )
        return stream if self.batch_first else stream.transpose(0, 1)


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
