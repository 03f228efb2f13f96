"""Where the gradients of several tensors go: straight into those of what they are views of.

Queries, keys and values are most often views of what a projection puts out, one for all or one each. Their gradients
are written where that projection's backward pass reads them, which saves it from putting them together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

from captum_ultra.relevance.cuts import Pulled

__all__ = ["Sinks"]

_Geometry = tuple[tuple[int, ...], tuple[int, ...], int]  # shape, strides, offset


@dataclass(frozen=True, eq=False)
class _Base:
    """Something of which gradients are asked for, and the tensors that are views of it."""

    edge: GradientEdge
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    like: Tensor
    views: dict[int, _Geometry]
    covered: bool


class Sinks:
    """Buffers for the gradients of some tensors of which some need one.

    Args:
        tensors: parts of a graph, or constants; None stands for one that no gradient is asked of.

    Attributes:
        edges: what the buffers are gradients of: the tensors themselves, or what they are views of.

    Example:
        >>> joined = torch.ones(2, 6, requires_grad=True).exp()
        >>> sinks = Sinks(joined.chunk(3, -1))
        >>> len(sinks.edges), sinks.filled([torch.zeros(4, 2, 2)] * 3)[0][1].shape
        (1, torch.Size([4, 2, 6]))
    """

    def __init__(self, tensors: Sequence[Tensor | None]) -> None:
        self._bases: list[_Base] = []
        sharing: dict[int, list[int]] = {}
        given = {place: each for place, each in enumerate(tensors) if each is not None and each.requires_grad}
        bases = {place: _base(each) for place, each in given.items()}
        for place, base in bases.items():
            sharing.setdefault(id(base), []).append(place)
        for places in sharing.values():
            base = bases[places[0]]
            views = {place: _geometry(given[place], base) for place in places}
            distinct, covered = _cover(base.numel(), tuple(views.values()))
            if distinct:
                self._add(base, base.stride(), views, covered)
                continue
            for place in places:
                alone = given[place]
                strides = torch.empty(alone.shape, device="meta").stride()
                self._add(alone, strides, {place: (tuple(alone.shape), strides, 0)}, True)
        self.edges = tuple(each.edge for each in self._bases)

    def _add(self, base: Tensor, strides: tuple[int, ...], views: dict[int, _Geometry], covered: bool) -> None:
        edge, like = get_gradient_edge(base), base.detach()
        self._bases.append(_Base(edge, tuple(base.shape), strides, like, views, covered))

    def filled(self, gradients: Sequence[Tensor | None]) -> Pulled:
        """The gradients [T, ...] of ``edges``, of those [T, ...] of the tensors, which may be None."""
        targets = next((len(each) for each in gradients if each is not None), 0)
        found: Pulled = []
        for base in self._bases:
            step = base.like.numel()
            buffer = (base.like.new_empty if base.covered else base.like.new_zeros)(targets * step)
            for place, (shape, strides, offset) in base.views.items():
                gradient = gradients[place]
                view = buffer.as_strided((targets, *shape), (step, *strides), offset)
                if gradient is None:
                    view.zero_()
                else:
                    view.copy_(gradient)
            found.append((base.edge, buffer.as_strided((targets, *base.shape), (step, *base.strides))))
        return found


def _base(tensor: Tensor) -> Tensor:
    base = tensor._base
    fits = base is not None and base.requires_grad and base.is_contiguous() and base.dtype == tensor.dtype
    return base if base is not None and fits else tensor


def _geometry(tensor: Tensor, base: Tensor) -> _Geometry:
    return tuple(tensor.shape), tensor.stride(), int(tensor.storage_offset() - base.storage_offset())


@lru_cache(maxsize=256)
def _cover(numbers: int, views: tuple[_Geometry, ...]) -> tuple[bool, bool]:
    """Whether views of so many numbers share none with each other or themselves, and whether they cover all."""
    total = 0
    met = torch.zeros(numbers, dtype=torch.int32)
    for shape, strides, offset in views:
        reach = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
        if reach >= numbers or any(size > 1 and stride == 0 for size, stride in zip(shape, strides, strict=True)):
            return False, False
        index = torch.arange(numbers).as_strided(shape, strides, offset).reshape(-1)
        met.index_add_(0, index, torch.ones_like(index, dtype=torch.int32))
        total += len(index)
    return bool(met.max() <= 1), total == numbers
