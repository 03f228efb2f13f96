"""One operation with its ordinary forward pass, whose backward pass takes and gives relevance.

While a model runs inside the scope, the cotangents of its graph are relevances. Two forms suffice: a
rule that looks at the values of the inputs, and the identity, which does not need them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

__all__ = ["Rule", "carry", "pass_through"]

Rule = Callable[..., tuple[Tensor, ...]]


def carry(compute: Callable[..., Tensor], rule: Rule, *inputs: Tensor) -> Tensor:
    """``compute(*inputs)``, with ``rule(relevance, *inputs)`` in place of its gradient.

    Args:
        compute: the ordinary operation.
        rule: relevance of the output, and the inputs, to the relevance of each input in its shape; at
            least in float32 whatever the dtype of the model.
        inputs: the tensors that relevance flows back to.

    Example:
        >>> x = torch.tensor([2.0, 3.0], requires_grad=True)
        >>> y = carry(torch.sum, lambda relevance, x: (relevance * x / x.sum(),), x)
        >>> torch.autograd.grad(y, x)
        (tensor([0.4000, 0.6000]),)
    """
    return _Carry.apply(compute, rule, *inputs)


def pass_through(compute: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """``compute(x)``; all its relevance goes to x, summed where x was broadcast.

    The rule of softmax, of normalisations and activations, and of sums, products and quotients with constants.

    Example:
        >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> torch.autograd.grad(pass_through(torch.exp, x), x, torch.tensor([0.25, 0.75]))
        (tensor([0.2500, 0.7500]),)
    """
    return _PassThrough.apply(compute, x)


class _Carry(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compute: Any, rule: Any, *inputs: Tensor) -> Tensor:
        # Not the output: models may go on to change it in place.
        ctx.save_for_backward(*inputs)
        ctx.rule = rule
        return _whole(compute(*inputs))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, relevance: Tensor) -> Any:
        compute = torch.promote_types(relevance.dtype, torch.float32)
        # Detached: a rule may keep what it sees, and a graph that its own rules hold on to would never be freed.
        inputs = tuple(each.detach() for each in ctx.saved_tensors)
        found = ctx.rule(relevance.to(compute), *(each.to(compute) for each in inputs))
        return None, None, *(each.to(x.dtype) for each, x in zip(found, inputs, strict=True))


class _PassThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, compute: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return _whole(compute(x))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, relevance: Tensor) -> Any:
        return None, relevance.sum_to_size(ctx.shape)


def _whole(result: Tensor) -> Tensor:
    """No view, which the model could not change in place."""
    return result.clone() if result._is_view() else result
