"""Going through somebody's residual blocks while a model runs: where the stream is, in order, and when to stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.nested import first_tensor, with_first_tensor
from captum_ultra.relevance.threads import in_this_thread
from captum_ultra.relevance.transposed import transposes_inside

__all__ = ["LastLayerReached", "Walk", "walk"]

Step = Callable[[int, nn.Module, Tensor], Tensor | None]


class LastLayerReached(BaseException):
    """Ends a run that has nothing more to tell; not an ``Exception``, so that no model catches it."""


class Walk:
    """How far a run has come.

    Attributes:
        passed: number of blocks that have run.
        shape: (batch, tokens) of the stream.
    """

    def __init__(self, blocks: Sequence[nn.Module], batch_first: bool, last: int | None) -> None:
        self.blocks, self.batch_first = blocks, batch_first
        self.last = len(blocks) if last is None else last
        self.passed = 0
        self.shape: tuple[int, ...] = ()
        self._inside = False

    def check_ended(self) -> None:
        """Raise unless all blocks that were needed have run.

        Raises:
            UnsupportedModelError: if blocks did not run.
        """
        if self.passed < self.last:
            none = self.passed == 0
            raise UnsupportedModelError(
                f"{'none' if none else f'only {self.passed}'} of the {self.last} blocks needed were run by the model: "
                + (
                    "this input goes through another part of it, or their forward is called directly, past every hook. "
                    "Explain that part by itself, or name the blocks that the input goes through, blocks=[...]"
                    if none
                    else "name those that this input really goes through, in order, as blocks=[...]"
                )
            )

    def enter(self, index: int, block: nn.Module, values: Any) -> Tensor:
        """The stream [B, n, d] among the arguments of a block."""
        name = f"block {index} ({type(block).__name__})"
        if self._inside:
            raise UnsupportedModelError(
                f"{name} runs inside block {self.passed}; nested blocks are no residual stream: name only the outer "
                "or only the inner modules, blocks=[...]"
            )
        if index != self.passed:
            raise UnsupportedModelError(
                f"{name} ran out of order or more than once, after {self.passed} blocks; shared or re-entered blocks "
                "cannot be told apart: name the blocks in the order in which they run, blocks=[...]; where one runs "
                "several times, explain a model whose blocks have weights of their own"
            )
        stream = self._stream(values, block)
        self.shape = self.shape or tuple(stream.shape[:2])
        self._inside = True
        return stream

    def leave(self, index: int, block: nn.Module, values: Any) -> Tensor:
        """The stream [B, n, d] in what a block returned."""
        stream = self._stream(values, block)
        if stream.shape[:2] != self.shape:
            raise UnsupportedModelError(
                f"block {index} ({type(block).__name__}) turns {self.shape} (batch, tokens) into "
                f"{tuple(stream.shape[:2])}; models that merge, pool or drop tokens between blocks cannot be explained "
                "token by token as a whole. Where a part of the model keeps its tokens, name its blocks: blocks=[...]"
            )
        self.passed, self._inside = index + 1, False
        return stream

    def _stream(self, values: Any, block: nn.Module) -> Tensor:
        carried = first_tensor(values)
        if carried is None or carried.dim() != 3 or not carried.is_floating_point():
            found = "no tensor" if carried is None else f"a tensor of shape {tuple(carried.shape)}"
            if carried is not None and carried.dim() == 2:
                raise UnsupportedModelError(
                    f"{type(block).__name__} carries {found}, [tokens, channels] without an axis of samples: the model "
                    "packs its inputs into one sequence, which cannot be told apart. Explain a model that keeps a "
                    "residual stream [batch, tokens, channels]"
                )
            raise UnsupportedModelError(
                f"{type(block).__name__} carries {found} where a residual stream [batch, tokens, channels] is "
                "expected; convolutional, windowed and graph models have no such stream. Where a part of the "
                "model has one, name its blocks: blocks=[...]"
            )
        return self.carried(carried)

    def carried(self, stream: Tensor) -> Tensor:
        """The stream [B, n, d] as the model carries it, and back."""
        return stream if self.batch_first else stream.transpose(0, 1)


@contextmanager
def walk(
    blocks: Sequence[nn.Module], *, batch_first: bool = True, enter: Step | None = None, leave: Step | None = None,
    last: int | None = None,
) -> Iterator[Walk]:  # fmt: skip
    """Within: a run of the model in this thread tells what enters and what leaves each block.

    The stream is handed over as [B, n, d], and it is this tensor that the model goes on with, so that gradients with
    respect to it exist. Other threads may run the model meanwhile; their runs are not seen.

    Args:
        blocks: the residual blocks in the order in which they run.
        batch_first: whether the model carries [B, n, d]; False where its attention takes tokens first: the first
            block shows, when it runs, whether it carries [n, B, d] or transposes inside.
        enter: (number of the block, block, stream) -> the stream that the block gets in its place, or None.
        leave: the same for what the block returned.
        last: end the run, with :class:`LastLayerReached`, after so many blocks (0: before the first); None lets the
            model run on.

    Raises:
        UnsupportedModelError: in the run, if a block does not run exactly once and in order, carries no stream, or
            changes the number of tokens.

    Example:
        >>> seen = []
        >>> model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
        >>> import torch
        >>> with walk(model, leave=lambda index, block, stream: seen.append(tuple(stream.shape))):
        ...     _ = model(torch.zeros(1, 3, 4))
        >>> seen
        [(1, 3, 4), (1, 3, 4)]
    """
    found = Walk(blocks, batch_first, last)
    handles = []

    def before(index: int) -> Callable[..., Any]:
        def hook(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            values = [*args, *kwargs.values()]
            if index == 0 and not found.batch_first:
                found.batch_first = transposes_inside(block, args, kwargs)
            stream = found.enter(index, block, values)
            other = enter and enter(index, block, stream)
            if last == 0:
                raise LastLayerReached
            if other is None and found.batch_first:
                return None
            replaced = with_first_tensor(values, found.carried(stream if other is None else other))
            return tuple(replaced[: len(args)]), dict(zip(kwargs, replaced[len(args) :], strict=True))

        return hook

    def after(index: int) -> Callable[..., Any]:
        def hook(block: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
            stream = found.leave(index, block, output)
            other = leave and leave(index, block, stream)
            if found.passed == last:
                raise LastLayerReached
            if other is None and found.batch_first:
                return None
            return with_first_tensor(output, found.carried(stream if other is None else other))

        return hook

    try:
        for index, block in enumerate(blocks):
            handles.append(block.register_forward_pre_hook(in_this_thread(before(index)), with_kwargs=True))
            handles.append(block.register_forward_hook(in_this_thread(after(index))))
        yield found
    finally:
        for handle in handles:
            handle.remove()
