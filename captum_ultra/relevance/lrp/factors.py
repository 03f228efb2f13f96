"""Operations that may stand only where no relevance comes by: gates, sizes, and what has no rule.

``x * sigmoid(c x)`` is a gated signal, ``x / norm(x)`` a signal of another length: the signal takes all
relevance, the gate and the norm are constants. Any other use of them would lose relevance, and is refused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_ultra.relevance.lrp.operation import Operation, is_signal, replaced, tensors_in
from captum_ultra.relevance.lrp.place import running_module

__all__ = ["guarded"]


def guarded(op: Operation, why: str) -> Any:
    """The ordinary result of an operation, which says, if relevance comes by, why it takes none.

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
    def backward(ctx: Any, *gradients: Any) -> Any:
        ctx.refuse()
