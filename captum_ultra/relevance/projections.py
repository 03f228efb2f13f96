"""Queries, keys and values that a linear layer puts out as they are: gradients can go past it, to what it was given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

__all__ = ["Projected", "Projections"]


@dataclass(frozen=True, eq=False)
class Projected:
    """Heads [B, H, n, e] that are a linear map of tokens [B, n, d], head by head.

    Attributes:
        edge: of the tokens.
        weight: [H, e, d].
    """

    edge: GradientEdge
    weight: Tensor


class Projections:
    """The linear layers of the block that is running.

    Attributes:
        widest: numbers of the largest array that one put out so far, of all samples.
    """

    def __init__(self) -> None:
        # By the id of what results are views of, which is kept so that its id stays its own.
        self._seen: dict[int, tuple[Tensor, Tensor, Tensor, Tensor]] = {}

        self.widest = 0

    def forget(self) -> None:
        """What was seen is over."""
        self._seen.clear()

    def called(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """After a torch function was called."""
        if function is not F.linear or not isinstance(result, Tensor):
            return
        self.widest = max(self.widest, result.numel())
        tokens, weight, *_ = (*args, *kwargs.values())
        same = (
            isinstance(tokens, Tensor) and isinstance(weight, Tensor) and tokens.dtype == weight.dtype == result.dtype
        )
        if same and tokens.dim() == 3 and tokens.requires_grad and result.is_contiguous():
            # Of tokens with a batch axis torch gives a view of a matrix.
            base = result if result._base is None else result._base
            if base.numel() == result.numel():
                self._seen[id(base)] = base, result, tokens, weight.detach()

    def of(self, heads: Tensor) -> Projected | None:
        """How heads [B, H, n, e] are made, where they are views of what a linear layer has put out."""
        base = heads._base
        if base is None or id(base) not in self._seen or heads._backward_hooks:
            return None
        _, result, tokens, weight = self._seen[id(base)]
        if base._backward_hooks or result._backward_hooks:
            return None
        (batch, count, n, width), channels = heads.shape, result.shape[-1]
        sample, head, row, entry = heads.stride()
        rows_fit = tuple(result.shape[:2]) == (batch, n) and (n == 1 or row == channels)
        if not rows_fit or (batch > 1 and sample != n * channels):
            return None
        first = int(heads.storage_offset() - result.storage_offset())
        if first + (count - 1) * head + (width - 1) * entry >= channels:
            return None
        places = first + head * torch.arange(count)[:, None] + entry * torch.arange(width)
        if head == width and entry == 1:
            of_heads = weight[first : first + count * width].view(count, width, -1)
        else:
            of_heads = weight[places.to(weight.device)]
        return Projected(get_gradient_edge(tokens), of_heads)
