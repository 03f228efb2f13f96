"""What each covered operation does while relevance is propagated: its forward pass, with its rule."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from captum_ultra.relevance.lrp.addition import renormalised_shares
from captum_ultra.relevance.lrp.carry import carry, pass_through
from captum_ultra.relevance.lrp.division import safe_divide
from captum_ultra.relevance.lrp.operation import Operation, is_signal, tensors_in
from captum_ultra.relevance.lrp.product import halved_shares, proportional_shares
from captum_ultra.relevance.lrp.weighted import bounded_shares, weighted_shares

__all__ = ["factors", "passed", "pooled", "product", "scaled", "summands", "summed", "summed_plainly",
           "weighted"]  # fmt: skip


def passed(op: Operation) -> Tensor:
    """Normalisations and activations: all relevance to the input."""
    return pass_through(op.with_signals, op.only_signal(next(tensors_in((op.args, op.kwargs))), "input"))


def pooled(op: Operation) -> Tensor:
    """Sums and means: the share of each entry."""
    (signal,) = op.signals
    return carry(op.with_signals, partial(proportional_shares, op.with_signals), signal)


def weighted(op: Operation, on_pixels: bool, published: bool) -> Tensor:
    """Linear layers and convolutions: the positive contributions, or z^B where the input is pixels."""

    def of(input: Tensor, weight: Tensor, bias: Tensor | None = None, *rest: Any, **options: Any) -> Tensor:
        def without_bias(x: Tensor, w: Tensor) -> Tensor:
            return op.func(x, w, None, *rest, **options)

        op.only_signal(input, "input")
        shares = bounded_shares if on_pixels else partial(weighted_shares, apart=published)
        return carry(op.with_signals, partial(shares, without_bias, weight), input)

    return of(*op.args, **op.kwargs)


def product(
    op: Operation, published: bool = False, keep: Callable[[Tensor, Tensor, Tensor], None] | None = None
) -> Tensor:
    """Matrix products: halves for two signals, or a linear map for one signal and a constant.

    Args:
        op: the operation.
        published: as in :class:`captum_ultra.relevance.lrp.propagation.Propagation`.
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
        return carry(op.with_signals, partial(weighted_shares, function, right, apart=published), left)
    op.only_signal(right, "factors")
    of_right = partial(weighted_shares, lambda x, w: function(w, x), left, apart=published)
    return carry(op.with_signals, of_right, right)


def summed(op: Operation, sample_axis: Callable[[torch.Size], int | None]) -> Tensor:
    """Sums and differences: shares of two signals; constants are biases and take none."""
    left, right, signs = summands(op)
    if not (is_signal(left) and is_signal(right)) or left is right:
        return pass_through(op.with_signals, op.signals[0])
    samples = sample_axis(torch.broadcast_shapes(left.shape, right.shape))

    def shares(relevance: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return renormalised_shares(relevance, signs[0] * x, signs[1] * y, samples)

    return carry(op.with_signals, shares, left, right)


def summed_plainly(op: Operation) -> Tensor:
    """Sums and differences of the published baselines: ``x R / (x + y)``; a constant takes its share as well."""
    left, right, signs = summands(op)
    if left is right:
        return pass_through(op.with_signals, op.signals[0])
    if not (is_signal(left) and is_signal(right)):
        sign = signs[0 if is_signal(left) else 1]

        def share_of(relevance: Tensor, x: Tensor) -> tuple[Tensor]:
            z = op.with_signals(x.to(op.signals[0].dtype)).to(relevance)
            return ((sign * x * safe_divide(relevance, z)).sum_to_size(x.shape),)

        return carry(op.with_signals, share_of, op.signals[0])

    def shares(relevance: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        x, y = signs[0] * x, signs[1] * y
        share = safe_divide(relevance, x + y)
        return (x * share).sum_to_size(x.shape), (y * share).sum_to_size(y.shape)

    return carry(op.with_signals, shares, left, right)


def summands(op: Operation) -> tuple[Any, Any, tuple[Any, Any]]:
    """The two operands of a binary operation, and, where it is a sum or a difference, their factors."""

    def of(input: Any, other: Any, *, alpha: Any = 1, **_: Any) -> tuple[Any, Any, tuple[Any, Any]]:
        if op.name in ("rsub", "__rsub__"):
            return input, other, (-alpha, 1)
        return input, other, (1, -alpha if op.name in ("sub", "subtract") else alpha)

    return of(*op.args, **op.kwargs)


def scaled(op: Operation, is_factor: Callable[[Tensor], bool]) -> Tensor:
    """Products and quotients, entry by entry: constants, gates and sizes take no relevance; two signals half each."""
    left, right, _ = summands(op)
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
