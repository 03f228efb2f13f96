"""Autograd's graph, from results down to what they were made of."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from typing import Any

__all__ = ["nodes_below"]


def nodes_below(results: Sequence[Any], until: Container[Any] = ()) -> Iterator[Any]:
    """The nodes that made some results, each once, themselves included; nothing below the nodes ``until``.

    Example:
        >>> import torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> [node.name().removesuffix("Backward0") for node in nodes_below([(2 * x).exp().grad_fn])]
        ['Exp', 'Mul', 'torch::autograd::AccumulateGrad']
    """
    seen, waiting = set[Any](), list(results)
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        if node not in until:
            waiting += [below for below, _ in node.next_functions]
