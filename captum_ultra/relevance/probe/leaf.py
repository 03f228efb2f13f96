"""The explained input as a leaf of a run's graph, so that what depends on it can be told from what does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

__all__ = ["InputLeaf"]


class InputLeaf(TorchFunctionMode):
    """Within: what is made of the input requires a gradient; of token ids, their embeddings are where it begins.

    Args:
        inputs: that are explained.

    Attributes:
        leaf: floating-point inputs as a leaf, None for token ids.
        made: leaves of the run that are made of the input, token by token: itself, or the embeddings of ids.
        inputs: to give to the model in their place; safe to change in place.

    Example:
        >>> ids = torch.tensor([[1, 2]])
        >>> with InputLeaf(ids) as leaf:
        ...     made = torch.nn.Embedding(4, 8).requires_grad_(False)(ids)
        >>> made.requires_grad, leaf.found
        (True, True)
    """

    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self.leaf = inputs.detach().clone().requires_grad_() if inputs.is_floating_point() else None
        self.made: list[Tensor] = [] if self.leaf is None else [self.leaf]
        with torch.inference_mode(False), torch.enable_grad():
            self.inputs = inputs.clone() if self.leaf is None else self.leaf.clone()

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func is F.embedding and self._are_inputs(args[0] if args else (kwargs or {})["input"]):
            self.made.append(result.requires_grad_())
            return result.clone()
        return result

    @property
    def found(self) -> bool:
        """Whether the leaf was met: always for floating-point inputs, else once ids were looked up."""
        return bool(self.made)

    def _are_inputs(self, ids: Tensor) -> bool:
        return ids.shape == self.inputs.shape and bool((ids == self.inputs.to(ids.device)).all())
