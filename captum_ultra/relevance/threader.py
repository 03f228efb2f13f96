"""The bookkeeping of one traced run: which block is running, and the relevance that has come so far."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.course import Course
from captum_ultra.relevance.interception import AttentionInterceptor
from captum_ultra.relevance.stream import LastLayerReached, first_tensor, with_first_tensor
from captum_ultra.relevance.trace import Trace

__all__ = ["Threader", "check_connected"]


class Threader:
    """Hooks on the blocks that thread relevance through them, by way of the interceptor.

    Args:
        blocks: the residual blocks in the order in which they run.
        course: what is followed.
        batch_first: whether the residual stream is [B, n, d] (else [n, B, d]).
        stop_early: end the run after the highest layer asked for.
        on_start: called with the stream [B, n, d] before the first block runs.
    """

    def __init__(
        self, blocks: Sequence[nn.Module], course: Course, batch_first: bool, stop_early: bool,
        on_start: Callable[[Tensor], None],
    ) -> None:  # fmt: skip
        self.blocks, self.course, self.batch_first, self.on_start = blocks, course, batch_first, on_start
        self.last = max(max(course.layers), 1) if stop_early else len(blocks)
        self.passed = 0
        self.shape: tuple[int, ...] = ()
        self.trace = Trace(batch_first=batch_first)
        self.interceptor = AttentionInterceptor(course)

    @contextmanager
    def hooked(self) -> Iterator[None]:
        """The hooks, for the length of the ``with``."""
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
        """The trace of a run that has ended.

        Raises:
            UnsupportedModelError: if blocks did not run.
            ValueError: if latents are not finite.
        """
        if self.passed < self.last:
            raise UnsupportedModelError(
                f"only {self.passed} of the {self.last} blocks needed were run by the model; "
                "pass the ordered list of residual blocks that this input really goes through as blocks=..."
            )
        self.trace.ledger.check_forward()
        return self.trace

    def _enter(self, index: int) -> Callable[..., Any]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if index != self.passed:
                raise UnsupportedModelError(
                    f"block {index} ({type(module).__name__}) ran out of order or more than once, after "
                    f"{self.passed} blocks; shared or re-entered blocks cannot be told apart: "
                    "pass blocks=... with modules that run once each, in order"
                )
            carried = first_tensor((*args, *kwargs.values()))
            stream = self._batch_first(carried, module)
            assert carried is not None
            if index == 0:
                self.shape = tuple(stream.shape[:2])
                self.on_start(stream)
            if index < self.course.first:
                return None
            if index > self.course.first:
                check_connected(stream, f"the input of block {index} ({type(module).__name__})")
            if not self.course.cuts_at(index):
                self._follow_into(index, module, carried)
                return None
            leaf = carried.detach().requires_grad_()
            self._follow_into(index, module, leaf)
            replaced = with_first_tensor([*args, *kwargs.values()], leaf)
            return tuple(replaced[: len(args)]), dict(zip(kwargs, replaced[len(args) :], strict=True))

        return hook

    def _follow_into(self, index: int, block: nn.Module, carried: Tensor) -> None:
        stream = carried if self.batch_first else carried.transpose(0, 1)
        if self.course.begins_at(index):
            relevance = self.trace.add_source(index, stream)
            if index == self.course.first:
                self.trace.keep(index, stream, relevance)
                self.trace.streams[index] = carried
            self.interceptor.begin(relevance, self.trace.ledger)
        self.interceptor.enter(index, block, stream)

    def _leave(self, index: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            carried = first_tensor(output)
            stream = self._batch_first(carried, module)
            assert carried is not None
            if stream.shape[:2] != self.shape:
                raise UnsupportedModelError(
                    f"block {index} ({type(module).__name__}) turns {self.shape} "
                    f"(batch, tokens) into {tuple(stream.shape[:2])}; models that merge, pool or drop tokens "
                    "between blocks cannot be explained token by token: pass a part of the model where the "
                    "number of tokens stays constant as blocks=..."
                )
            self.passed = index + 1
            if index >= self.course.first:
                self._follow_out_of(index, module, carried, stream)
                self.trace.last_block_output = output
            if self.passed == self.last < len(self.blocks):
                raise LastLayerReached

        return hook

    def _follow_out_of(self, index: int, block: nn.Module, carried: Tensor, stream: Tensor) -> None:
        relevance = self.interceptor.leave(stream)
        for each in (stream, relevance):
            check_connected(each, f"the output of block {index} ({type(block).__name__})")
        if self.passed in self.course.layers or self.course.separate:
            self.trace.keep(self.passed, stream, relevance)
            self.trace.streams[self.passed] = carried
        else:
            self.trace.ledger.note_forward(self.passed, stream)

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
