"""One call of a torch function, seen while a model runs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

from torch import Tensor, nn
from torch.overrides import resolve_name

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.lrp.place import running_module

__all__ = ["Operation", "is_signal", "replaced", "tensors_in"]


def tensors_in(values: Any) -> Iterator[Tensor]:
    """The tensors in (nested) arguments or results of a call, in order."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from tensors_in(list(values.values()))
    elif isinstance(values, tuple | list):
        for each in values:
            yield from tensors_in(each)


def is_signal(value: Any) -> bool:
    """Whether a value depends on the leaf; a parameter that happens to be trainable is a constant."""
    return isinstance(value, Tensor) and value.grad_fn is not None


@dataclass
class Operation:
    """A call of a function on tensors of which some depend on the leaf.

    Attributes:
        func: the function, as torch's override protocol names it.
        args: its positional arguments.
        kwargs: its keyword arguments.
        model: the model that runs, for messages.
        signals: the arguments that depend on the leaf, in order, each once.
        place: the module that called it, where that is known already.
    """

    func: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    model: nn.Module
    signals: list[Tensor] = field(init=False)
    place: str | None = None

    def __post_init__(self) -> None:
        dependent = (each for each in tensors_in((self.args, self.kwargs)) if is_signal(each))
        self.signals = list({id(each): each for each in dependent}.values())

    @property
    def name(self) -> str:
        """The bare name that the forms of an operation share: ``add`` of torch.add and Tensor.add."""
        return getattr(self.func, "__name__", "")

    def run(self) -> Any:
        """The ordinary result."""
        return self.func(*self.args, **self.kwargs)

    def with_signals(self, *values: Tensor) -> Any:
        """The ordinary result with other values in place of the signals."""
        other = {id(signal): value for signal, value in zip(self.signals, values, strict=True)}
        return self.func(*replaced(self.args, other), **replaced(self.kwargs, other))

    def only_signal(self, tensor: Any, role: str) -> Tensor:
        """``tensor``, if nothing else depends on the leaf; else the operation is refused."""
        if len(self.signals) == 1 and tensor is self.signals[0]:
            return self.signals[0]
        self.refuse(f"is covered where only its {role} depends on what is explained")

    def refuse(self, why: str) -> NoReturn:
        """Raise for an operation that the rules do not cover.

        Raises:
            UnsupportedModelError: names the operation, the module that called it, and what can be done.
        """
        try:
            name = resolve_name(self.func) or self.name
        except Exception:
            name = self.name
        shapes = ", ".join(str(list(each.shape)) for each in self.signals)
        place = self.place or running_module(self.model)
        raise UnsupportedModelError(
            f"layer-wise relevance propagation: {name} of {shapes} in {place} {why}. Replace that module by "
            "one made of linear layers, attention, sums, normalisations and activations, or use a method that needs "
            "gradients only, such as GenericAttention or TokenTM"
        )


def replaced(values: Any, other: dict[int, Tensor]) -> Any:
    """Nested values with other tensors in place of some, by their ``id``."""
    if isinstance(values, Tensor):
        return other.get(id(values), values)
    if isinstance(values, dict):
        return {key: replaced(each, other) for key, each in values.items()}
    if isinstance(values, tuple | list):
        changed: Sequence[Any] = [replaced(each, other) for each in values]
        return type(values)(*changed) if hasattr(values, "_fields") else type(values)(changed)
    return values
