"""Attention that runs outside the blocks that are followed, and whether it lies on the way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from captum_ultra.relevance.probe.reach import gradients_to
from captum_ultra.relevance.threads import in_this_thread

__all__ = ["Named", "OutsideAttention"]


@dataclass(frozen=True)
class OutsideAttention:
    """An attention between the input and what the model returns that no block of the chain holds.

    Attributes:
        module: the name of the module that ran it.
        where: before the first block, or behind the last one.
    """

    module: str
    where: Literal["before", "behind"]


@dataclass
class Named:
    """Knows the module that is running, and how often each ran."""

    model: nn.Module
    stack: list[nn.Module] = field(default_factory=list)
    names: dict[nn.Module, str] = field(init=False)
    runs: Counter[nn.Module] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.names = {module: name or type(module).__name__ for name, module in self.model.named_modules()}

    @property
    def module(self) -> nn.Module:
        """The innermost module that is running."""
        return self.stack[-1] if self.stack else self.model

    @property
    def name(self) -> str:
        """The name of the innermost module that is running."""
        return self.names.get(self.module, type(self.module).__name__)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Within: runs of the model in this thread are followed."""

        def enter(module: nn.Module, args: object) -> None:
            self.stack.append(module)
            self.runs[module] += 1

        def leave(module: nn.Module, args: object, output: object) -> None:
            self.stack.pop()

        handles = []
        try:
            for module in self.names:
                handles.append(module.register_forward_pre_hook(in_this_thread(enter)))
                handles.append(module.register_forward_hook(in_this_thread(leave)))
            yield
        finally:
            for handle in handles:
                handle.remove()


def leads_to(stream: Tensor, made: list[tuple[str, Tensor]]) -> list[str]:
    """The names of those tensors on which a stream depends."""
    followed = [(name, tensor) for name, tensor in made if tensor.requires_grad]
    if not followed:
        return []
    found = gradients_to([tensor for _, tensor in followed], stream, torch.ones_like(stream))
    return [name for (name, _), gradient in zip(followed, found, strict=True) if gradient is not None]
