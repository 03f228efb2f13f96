"""Gates, sizes, and other operations that may stand where no relevance comes by.

``x * sigmoid(c x)`` is a gated signal, ``x / norm(x)`` a signal of another length: the signal takes all
relevance, the gate and the norm are constants. Any other use of them would lose relevance, and is refused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_ultra.relevance.lrp.operation import Operation, is_signal, replaced, tensors_in
from captum_ultra.relevance.lrp.place import running_module

__all__ = ["factor", "guarded"]


def factor(op: Operation) -> Tensor:
    """The ordinary result of an operation, which refuses to be given relevance.

    Raises:
        UnsupportedModelError: in the backward pass, if the result was used as a signal.
    """
    op.place = running_module(op.model)
    return _Factor.apply(op, *op.signals)


class _Factor(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, op: Operation, *signals: Tensor) -> Tensor:
        ctx.op = op
        return op.with_signals(*signals)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        ctx.op.refuse("is covered as a gate or a norm that signals are multiplied or divided by")


def guarded(op: Operation, why: str) -> Any:
    """The ordinary result of an operation, which says, if a gradient comes by, why it has none.

    Raises:
        UnsupportedModelError: in the backward pass.
    """
    op.place = running_module(op.model)
    result = op.run()
    return replaced(result, {id(each): _Guard.apply(each, op, why) for each in tensors_in(result) if is_signal(each)})


class _Guard(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, op: Operation, why: str) -> Tensor:
        ctx.refuse = lambda: op.refuse(why)
        return value.clone()  # no view, which the model could not change in place

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        ctx.refuse()
