"""The engine's view of somebody's transformer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

if TYPE_CHECKING:
    from captum_ultra.adapters.probe import Findings

__all__ = ["TransformerView", "call_plainly", "library_of", "split_arguments"]

Call = Callable[[nn.Module, Tensor, Any], Any]


def split_arguments(extra: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Captum's ``additional_forward_args`` (None, one value, a tuple) or a dict of keywords.

    Captum's wrappers hand a dict over inside a tuple.
    """
    if isinstance(extra, tuple) and len(extra) == 1 and isinstance(extra[0], dict):
        (extra,) = extra
    if extra is None:
        return (), {}
    if isinstance(extra, dict):
        return (), dict(extra)
    return (tuple(extra), {}) if isinstance(extra, tuple | list) else ((extra,), {})


def call_plainly(model: nn.Module, inputs: Tensor, extra: Any) -> Any:
    """``model(inputs, *extra)``: how most models are called."""
    args, kwargs = split_arguments(extra)
    return model(inputs, *args, **kwargs)


@dataclass(frozen=True)
class TransformerView:
    """Where the residual stream of a model runs, and how to make it run.

    Attributes:
        name: what the model is, for messages.
        model: the module to call: the model itself or the tower that the input belongs to.
        blocks: the residual blocks in the order in which they run.
        call: ``call(model, inputs, additional_forward_args)`` runs the blocks.
        batch_first: whether the stream is [B, n, d] (else [n, B, d]).
        stop_early: False where leaving the forward pass early would leave something behind.
        discovered: whether the blocks were found by running the model.
        findings: what a probe of the model found out, once there was one.
    """

    name: str
    model: nn.Module
    blocks: Sequence[nn.Module]
    call: Call = call_plainly
    batch_first: bool = True
    stop_early: bool = True
    discovered: bool = False
    findings: Findings | None = None


def library_of(model: nn.Module) -> set[str]:
    """Top-level packages that define the model's class or one of its bases."""
    return {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
