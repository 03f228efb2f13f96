"""What a softmax's probabilities are multiplied with: the values, if nothing came between."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["PRODUCTS", "values_of"]

_MATMUL = {
    torch.matmul, torch.Tensor.matmul, torch.Tensor.__matmul__, torch.bmm, torch.Tensor.bmm, torch.mm, torch.Tensor.mm,
    torch.linalg.matmul,
}  # fmt: skip
_ADDING = {torch.baddbmm, torch.Tensor.baddbmm, torch.addmm, torch.Tensor.addmm}
PRODUCTS = {*_MATMUL, *_ADDING, torch.einsum, F.linear, torch.Tensor.__rmatmul__}


def values_of(function: Any, args: tuple[Any, ...], probabilities: Tensor) -> tuple[Tensor, int, int] | None:
    """The values that the probabilities are multiplied with, if this call does.

    Args:
        function: one of ``PRODUCTS``.
        args: of the call.
        probabilities: [..., n, m] as they left the softmax.

    Returns:
        The values, their axis of keys, and the axis of queries in the product; None for another product, also for one
        of probabilities that were changed: set to zero here and there they are still the ones that are followed.

    Example:
        >>> A = torch.tensor([[0.2, 0.8], [1.0, 0.0]])
        >>> values_of(torch.matmul, (A, torch.ones(2, 3)), A)[1:]
        (-2, -2)
        >>> values_of(torch.matmul, (torch.ones(3, 2), A.mT), A)[1:]
        (-1, -1)
        >>> values_of(torch.matmul, (2 * A, torch.ones(2, 3)), A) is None
        True
        >>> values_of(torch.einsum, ("dj,ij->id", torch.ones(3, 2), A), A)[1:]
        (1, 0)
    """
    if function in _MATMUL or function in _ADDING:
        left, right = args[-2:] if function in _ADDING else args[:2]
        if _are(left, probabilities):
            return right, -2, -2
        return (
            (left, -1, -1) if isinstance(right, Tensor) and right.dim() > 1 and _are(right.mT, probabilities) else None
        )
    if function is torch.Tensor.__rmatmul__:
        return (args[0], -2, -2) if _are(args[1], probabilities) else None
    if function is F.linear:
        return (args[1], -1, -2) if _are(args[0], probabilities) else None
    equation, *given = args
    operands = list(given[0]) if len(given) == 1 and isinstance(given[0], list | tuple) else given
    if not isinstance(equation, str) or len(operands) != 2 or "->" not in equation:
        return None
    inputs, output = equation.replace(" ", "").replace("...", ".").split("->")
    labels = inputs.split(",")
    for place in (0, 1):
        if not _are(operands[place], probabilities):
            continue
        query, key = tuple(labels[place])[-2:]
        other = labels[1 - place]
        if key in other and query in output and query not in other:
            return operands[1 - place], _axis(other, key), _axis(output, query)
    return None


def _axis(labels: str, label: str) -> int:
    """The axis of a label; from the end where an ellipsis stands before it."""
    place = labels.index(label)
    return place if "." not in labels[:place] else place - len(labels)


def _are(operand: Any, probabilities: Tensor) -> bool:
    """Whether an operand is the probabilities, perhaps without a sink's column, cast, or with entries set to zero."""
    if not isinstance(operand, Tensor) or operand.dim() < 2 or operand.shape[-2] != probabilities.shape[-2]:
        return False
    if operand.shape[-1] == probabilities.shape[-1] - 1:
        probabilities = probabilities[..., :-1]
    if operand.shape[-1] != probabilities.shape[-1] or operand.numel() != probabilities.numel():
        return False
    given = operand.detach().reshape(-1, *operand.shape[-2:])
    expected = probabilities.detach().reshape(given.shape)
    # Cast to another precision and back at most: one rounding.
    coarse = max((torch.finfo(each.dtype) for each in (given, expected)), key=lambda each: each.eps)
    dtype = torch.promote_types(given.dtype, expected.dtype)
    given, expected = given.to(dtype), expected.to(dtype)
    error = (given - expected).abs()
    return bool((error <= (expected + coarse.smallest_normal) * coarse.eps).logical_or(given == 0).all())
