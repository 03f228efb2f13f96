"""Sees every operation of a running model on what depends on the leaf, so that each can be given a rule.

Operations before the leaf, on constants and on what cannot be differentiated are left alone. What the mode could not
see is refused by name, as is whatever the rules do not cover.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.calls import attention_inside
from captum_ultra.relevance.lrp import table
from captum_ultra.relevance.lrp.operation import Operation, tensors_in
from captum_ultra.relevance.refused import Refused
from captum_ultra.relevance.trace import Trace

__all__ = ["OperationGraph"]


class OperationGraph(TorchFunctionMode):
    """While active, gives every operation on signals the backward pass of its rule; base of the sets of rules.

    Args:
        model: the model that runs, for messages.

    Attributes:
        block: number of the block that is running, None outside them.
        kinds: tensor -> what is known of it beside its values; see the sets of rules.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.block: int | None = None
        self.kinds: Any = WeakIdKeyDictionary()
        self.model = model
        self.batch = 0  # before there is a leaf, nothing is followed
        self.paused = False  # while the package's own hooks compute
        self._known: set[Any] = set()
        self._depth = 0

    def ruled(self, op: Operation) -> Any:
        """The ordinary result of an operation, with the backward pass of its rule.

        Raises:
            UnsupportedModelError: for an operation without a rule.
        """
        raise NotImplementedError

    def begin(self, trace: Trace, stream: Tensor) -> Tensor:
        """Make the stream [B, n, d] that enters the first block the leaf; returns the signal that the block gets."""
        signal = trace.begin(stream)
        self.learn(signal)
        self.batch = len(stream)
        return signal

    def enter(self, index: int, block: nn.Module, stream: Tensor) -> None:
        """Before a block."""
        self.block = index

    def leave(self, trace: Trace, index: int, block: nn.Module, stream: Tensor, wanted: bool) -> Tensor | None:
        """After a block, whose latents may be wanted; returns what the run goes on with in their place."""
        self.block = None
        self.check_seen(stream)
        if not wanted:
            trace.ledger.note_forward(index + 1, stream)
            return None
        trace.keep(index + 1, stream)
        return stream.clone()  # later blocks may change theirs in place

    def check_seen(self, output: Tensor) -> None:
        """Raise if an operation that the mode did not see made the output."""
        self.check_known(Operation(torch.Tensor.detach, (output,), {}, self.model))

    def __enter__(self) -> OperationGraph:
        self._depth += 1
        super().__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        super().__exit__(kind, error, traceback)
        self._depth -= 1
        if self._depth == 0:
            self._known.clear()
            self.kinds.clear()
            if isinstance(error, Refused):
                raise error.error from None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.batch or self.paused or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        op = Operation(func, args, kwargs, self.model)
        if not op.signals:
            if not any(each.requires_grad for each in tensors_in((args, kwargs))):
                return func(*args, **kwargs)  # among them torch.no_grad, which must keep its effect
            with torch.no_grad():  # what depends on trainable parameters alone is a constant
                return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return attention_inside(self, args, kwargs)
        try:
            self.check_known(op)
            result = self._in_place(op) if _changes_in_place(op) else self.ruled(op)
        except UnsupportedModelError as error:
            raise Refused(error) from None
        changed = next(tensors_in(args[:1]), None)
        self.learn((result, changed, getattr(changed, "_base", None)))
        return result

    def followed(self, op: Operation) -> Any:
        """An operation that moves values, and mixes none."""
        if op.name == "dropout" and _is_random(*op.args, **op.kwargs):
            op.refuse("is random in evaluation mode: set the dropout to 0")
        result = op.run()
        self.kinds_follow(op.signals, result)
        return result

    def all_are(self, op: Operation, kind: str) -> bool:
        """Whether all signals of an operation are of a kind."""
        return all(self.kinds.get(each) == kind for each in op.signals)

    def kinds_follow(self, signals: list[Tensor], result: Any) -> None:
        """What is made of signals of one kind is of that kind."""
        kinds = {self.kinds.get(each) for each in signals}
        if len(kinds) == 1 and None not in kinds:
            for each in tensors_in(result):
                self.kinds[each] = next(iter(kinds))

    def _in_place(self, op: Operation) -> Tensor:
        """The operation on a copy of what it changes, and its result put in its place."""
        if op.kwargs.get("out") is not None:
            op.refuse("writes its result into another tensor (out=...)")
        target, *rest = op.args
        before = target.clone()
        self.learn(before)
        self.kinds_follow([target], before)
        func, kwargs = op.func, {key: value for key, value in op.kwargs.items() if key != "inplace"}
        if op.name.endswith("_"):
            func = getattr(torch.Tensor, op.name.removesuffix("_"), op.func)
        after = self.ruled(Operation(func, (before, *rest), kwargs, self.model))
        self.learn(after)
        target.copy_(after)
        if after in self.kinds:
            self.kinds[target] = self.kinds[after]
        return target

    def learn(self, results: Any) -> None:
        """Remember the nodes of the graph that make these results; all of them were just put there."""
        nodes = [each.grad_fn for each in tensors_in(results) if each.grad_fn is not None]
        while nodes:
            node = nodes.pop()
            if node not in self._known:
                self._known.add(node)
                nodes += [below for below, _ in node.next_functions if below is not None]

    def check_known(self, op: Operation) -> None:
        """Raise if an operation that the mode did not see made a signal of this one."""
        for signal in op.signals:
            if signal.grad_fn is not None and signal.grad_fn not in self._known:
                op.refuse(
                    f"was given the result of {signal.grad_fn.name()}, an operation that torch does not announce "
                    "(a custom autograd function, a full backward hook, a scripted part, activation checkpointing)"
                )


def _changes_in_place(op: Operation) -> bool:
    if op.kwargs.get("inplace") or op.kwargs.get("out") is not None:
        return True
    return op.name.endswith("_") and not op.name.endswith("__") and op.name not in table.FOLLOWED


def _is_random(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> bool:
    return training and p > 0
