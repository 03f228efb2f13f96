"""Autograd's graph, from a result down to what it was made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor

__all__ = ["nodes_below"]


def nodes_below(result: Tensor, until: Any = None) -> Iterator[Any]:
    """The nodes that made a result, each once; nothing below the node ``until`` but by other ways.

    Example:
        >>> import torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> [node.name().removesuffix("Backward0") for node in nodes_below((2 * x).exp())]
        ['Exp', 'Mul', 'torch::autograd::AccumulateGrad']
    """
    seen, waiting = set[Any](), [result.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if node is not until:
            waiting += [below for below, _ in node.next_functions]
