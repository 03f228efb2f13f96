"""What a model brings along is constant while it is explained: in the operations of one thread, not in the model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

__all__ = ["Constants"]

_OF_THE_PARAMETER_ITSELF = {"__set__", "set_", "resize_", "requires_grad_"}
_SAID_OF_IT = {"requires_grad", "grad", "grad_fn", "is_leaf"}  # which libraries that offload weights pass on
_CHANGING = {"__setitem__", "__iadd__", "__isub__", "__imul__", "__itruediv__", "__ipow__", "__iand__", "__ior__"}


class Constants(TorchFunctionMode):
    """While active, operations of this thread see parameters without gradients, and tensors that a graph can hold.

    The flag ``requires_grad`` of a parameter belongs to all threads, one of which may be training; so it stays, and
    operations are given the parameter detached. Tensors made under inference mode, which no graph can hold, are given
    as copies. That a mode is active also keeps torch's encoder from its fused layers and from nested tensors, in this
    thread alone.

    Enter it last: what is entered before sees constants.

    Args:
        model: whose parameters are constants.

    Example:
        >>> layer = nn.Linear(2, 2)
        >>> with Constants(layer):
        ...     output = layer(torch.ones(1, 2))
        >>> output.requires_grad, layer.weight.requires_grad
        (False, True)
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._model = model
        self._trainable = {id(each): each for each in model.parameters() if each.requires_grad}
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}  # by id, with the tensor, so that the id stays its own

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        of = getattr(getattr(func, "__self__", None), "__name__", "") if name == "__get__" else ""
        if name in _OF_THE_PARAMETER_ITSELF or of in _SAID_OF_IT:
            return func(*args, **kwargs)
        with torch._C.DisableTorchFunction():
            changed, rest = (args[:1], args[1:]) if _changes_its_first(name) else ((), args)
            # A copy would take a change in the place of the tensor that it is meant for.
            targets = tuple(self._detached(each) if isinstance(each, Tensor) else each for each in changed)
            given = (*targets, *(self._constant(each) for each in rest))
            named = {key: each if key == "out" else self._constant(each) for key, each in kwargs.items()}
        return func(*given, **named)

    def _constant(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            needs_copy = torch.is_grad_enabled() and value.is_inference()
            return self._copy(value) if needs_copy else self._detached(value)
        if type(value) in (tuple, list):
            return type(value)(self._constant(each) for each in value)
        return value

    def _detached(self, tensor: Tensor) -> Tensor:
        return tensor.detach() if isinstance(tensor, nn.Parameter) and self._is_of_the_model(tensor) else tensor

    def _is_of_the_model(self, parameter: nn.Parameter) -> bool:
        if id(parameter) in self._trainable:
            return True
        # Libraries that offload weights put other parameters in their place while the model runs.
        return parameter.requires_grad and any(parameter is each for each in self._model.parameters())

    def _copy(self, tensor: Tensor) -> Tensor:
        if id(tensor) not in self._copies:
            self._copies[id(tensor)] = tensor, tensor.detach().clone()
        return self._copies[id(tensor)][1]


def _changes_its_first(name: str) -> bool:
    return name in _CHANGING or (name.endswith("_") and not name.endswith("__"))
