"""What each covered operation does while relevance is to be followed: its forward pass, with its rule."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_ultra.relevance.lrp.addition import renormalised_shares
from captum_ultra.relevance.lrp.carry import carry, pass_through
from captum_ultra.relevance.lrp.operation import Operation, is_signal, tensors_in
from captum_ultra.relevance.lrp.product import halved_shares, proportional_shares
from captum_ultra.relevance.lrp.weighted import bounded_shares, weighted_shares

__all__ = ["factors", "passed", "pooled", "product", "scaled", "summed", "weighted"]


def passed(op: Operation) -> Tensor:
    """Normalisations and activations: all relevance to the input."""
    return pass_through(op.with_signals, op.only_signal(next(tensors_in((op.args, op.kwargs))), "input"))


def pooled(op: Operation) -> Tensor:
    """Sums and means: the share of each entry."""
    (signal,) = op.signals
    return carry(op.with_signals, partial(proportional_shares, op.with_signals), signal)


def weighted(op: Operation, on_pixels: bool) -> Tensor:
    """Linear layers and convolutions: the positive contributions, or z^B where the input is pixels."""

    def of(input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **options: Any) -> Tensor:
        def without_bias(x: Tensor, w: Tensor) -> Tensor:
            return op.func(x, w, None, *rest, **options)

        op.only_signal(input, "input")
        shares = bounded_shares if on_pixels else weighted_shares
        return carry(op.with_signals, partial(shares, without_bias, weight), input)

    return of(*op.args, **op.kwargs)


def product(op: Operation, keep: Callable[[Tensor, Tensor, Tensor], None] | None = None) -> Tensor:
    """Matrix products: halves for two signals, or a linear map for one signal and a constant.

    Args:
        op: the operation.
        keep: called with the relevance and the two signals when relevance comes by.
    """
    function, left, right = factors(op)
    if is_signal(left) and is_signal(right):
        if left is right:
            op.refuse("multiplies a tensor with itself, which no rule covers")

        def shares(relevance: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            if keep is not None:
                keep(relevance, x, y)
            return halved_shares(function, relevance, x, y)

        return carry(op.with_signals, shares, left, right)
    if is_signal(left):
        op.only_signal(left, "factors")
        return carry(op.with_signals, partial(weighted_shares, function, right), left)
    op.only_signal(right, "factors")
    return carry(op.with_signals, partial(weighted_shares, lambda x, w: function(w, x), left), right)


def summed(op: Operation, sample_axis: Callable[[torch.Size], int | None]) -> Tensor:
    """Sums and differences: shares of two signals; constants are biases and take none."""
    left, right, alpha = _operands(op)
    if not (is_signal(left) and is_signal(right)) or left is right:
        return pass_through(op.with_signals, op.signals[0])
    sign = -alpha if op.name in ("sub", "subtract") else alpha
    samples = sample_axis(torch.broadcast_shapes(left.shape, right.shape))

    def shares(relevance: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return renormalised_shares(relevance, x, sign * y, samples)

    return carry(op.with_signals, shares, left, right)


def scaled(op: Operation, is_factor: Callable[[Tensor], bool]) -> Tensor:
    """Products and quotients, entry by entry: constants, gates and sizes take no relevance; two signals half each."""
    left, right, _ = _operands(op)
    divides = op.name in ("div", "divide", "true_divide")
    if not (is_signal(left) and is_signal(right)):
        if divides and is_signal(right):
            op.refuse("divides by what depends on what is explained")
        return pass_through(op.with_signals, op.signals[0])
    if is_factor(right):
        return pass_through(lambda x: op.func(x, right, **op.kwargs), left)
    if is_factor(left) and not divides:
        return pass_through(lambda x: op.func(left, x, **op.kwargs), right)
    if divides:
        op.refuse("divides two signals, which no rule covers unless the divisor is a norm")
    if left is right:
        return pass_through(op.with_signals, left)
    return carry(op.with_signals, partial(halved_shares, op.func), left, right)


def _operands(op: Operation) -> tuple[Any, Any, Any]:
    """The two operands of a binary operation, and the factor of the second one."""

    def of(input: Any, other: Any, *, alpha: Any = 1, **_: Any) -> tuple[Any, Any, Any]:
        return input, other, alpha

    return of(*op.args, **op.kwargs)


def factors(op: Operation) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]:
    """A matrix product as a function of its two factors, and these."""
    args = (*op.args, *op.kwargs.values())
    if op.name == "einsum":
        operands = list(tensors_in(args))
        if len(operands) != 2:
            op.refuse("is covered for two operands")
        return partial(op.func, args[0]), *operands  # type: ignore[return-value]
    if op.name in ("addmm", "baddbmm"):
        added, left, right = args[:3]
        if is_signal(added):
            op.refuse("adds another signal, which no rule covers in one operation")
        return torch.matmul, left, right
    left, right = args[:2] if op.name != "__rmatmul__" else (args[1], args[0])
    return torch.matmul, left, right
