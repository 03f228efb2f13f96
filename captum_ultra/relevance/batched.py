"""Backward passes that take all targets at once where ``vmap`` carries them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["BatchedBackward", "targets_first"]


class BatchedBackward(torch.autograd.Function):
    """Base of a backward pass as an operation of its own: its ``vmap`` receives all targets; it has no gradient."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass


def targets_first(tensor: Tensor, dim: int | None, targets: int) -> Tensor:
    """The batched dimension that ``vmap`` hands over, as the leading one; expanded if there is none."""
    return tensor.expand(targets, *tensor.shape) if dim is None else tensor.movedim(dim, 0)
