"""Whether blocks whose attention takes tokens first carry them first, or transpose them inside."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from captum_ultra.relevance.nested import first_tensor, with_first_tensor
from captum_ultra.relevance.threads import in_this_thread

__all__ = ["transposes_inside"]


class _Asked(BaseException):
    """Ends the run of a block at its attention; not an ``Exception``, so that no model catches it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape


def transposes_inside(block: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether the two leading axes of a block's stream stand the other way round at its nn.MultiheadAttention.

    The block runs as far as its attention, on a copy, and nobody sees it.

    Args:
        block: holds an ``nn.MultiheadAttention(batch_first=False)``.
        args: of the block.
        kwargs: of the block.

    Example:
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.attention = nn.MultiheadAttention(4, 2)
        ...     def forward(self, x):
        ...         y = x.transpose(0, 1)
        ...         return x + self.attention(y, y, y)[0].transpose(0, 1)
        >>> transposes_inside(Block(), (torch.zeros(2, 5, 4),), {})
        True
    """
    values = [*args, *kwargs.values()]
    stream = first_tensor(values)
    if stream is None or stream.dim() != 3:
        return False
    if stream.shape[0] == stream.shape[1]:  # a part of it has axes that can be told apart
        stream = stream[:1]

    def ask(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        query = first_tensor([*args, *kwargs.values()])
        raise _Asked(() if query is None else tuple(query.shape[:2]))

    attentions = [each for each in block.modules() if isinstance(each, nn.MultiheadAttention) and not each.batch_first]
    handles = [each.register_forward_pre_hook(in_this_thread(ask), with_kwargs=True) for each in attentions]
    copied = with_first_tensor(values, stream.detach().clone())  # which the block may change in place
    try:
        with torch.no_grad(), torch._C.DisableTorchFunction():
            block.forward(*copied[: len(args)], **dict(zip(kwargs, copied[len(args) :], strict=True)))
    except _Asked as asked:
        return asked.shape == (stream.shape[1], stream.shape[0])
    finally:
        for handle in handles:
            handle.remove()
    return False
