"""Following the residual stream through somebody's blocks: where it is among their values, and when to stop."""

from __future__ import annotations

from typing import Any

from torch import Tensor

__all__ = ["LastLayerReached", "first_tensor"]


class LastLayerReached(BaseException):
    """Ends a run that has nothing more to tell; not an ``Exception``, so that no model catches it."""


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
