"""The first tensor in nested arguments and outputs, which is where blocks carry their stream."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["first_tensor", "with_first_tensor"]


def first_tensor(values: Any) -> Tensor | None:
    """The first tensor in (nested) arguments or outputs of a block, or None.

    Example:
        >>> import torch
        >>> first_tensor((None, {"hidden": [torch.tensor(1), torch.tensor(2)]}))
        tensor(1)
    """
    if isinstance(values, Tensor):
        return values
    nested = values.values() if isinstance(values, dict) else values if isinstance(values, tuple | list) else ()
    return next((found for each in nested if (found := first_tensor(each)) is not None), None)


def with_first_tensor(values: Any, tensor: Tensor) -> Any:
    """The same nested values with another first tensor.

    Example:
        >>> import torch
        >>> with_first_tensor((None, [torch.tensor(1), torch.tensor(2)]), torch.tensor(5))
        (None, [tensor(5), tensor(2)])
    """
    if isinstance(values, Tensor):
        return tensor
    if isinstance(values, dict):
        keys = list(values)
        return dict(zip(keys, with_first_tensor([values[key] for key in keys], tensor), strict=True))
    found = next(index for index, each in enumerate(values) if first_tensor(each) is not None)
    changed = [*values[:found], with_first_tensor(values[found], tensor), *values[found + 1 :]]
    return type(values)(*changed) if hasattr(values, "_fields") else type(values)(changed)
