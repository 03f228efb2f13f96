"""One traced run of a model for an attribution method."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from captum_ultra.adapters import TokenLayout, TransformerView, watch_layout
from captum_ultra.attr.targets import Targets
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance import Course, Rule, Trace, trace_relevance

__all__ = ["Run", "half_precision_explained", "run_traced"]


@dataclass(frozen=True)
class Run:
    """A trace with the tokens of its input: the explained layers, the layout, the target indices [B, T]."""

    trace: Trace
    layers: tuple[int, ...]
    layout: TokenLayout
    indices: Tensor


def run_traced(
    view: TransformerView, inputs: Tensor, extra: Any, layers: Sequence[int], targets: Targets, rule: Rule
) -> Run:
    """Run the model once for all layers; targets are checked when the first block starts, before the long computation.

    Raises:
        ValueError: for tokens that do not exist, or latents that are not finite.
        UnsupportedModelError: see :func:`captum_ultra.relevance.trace_relevance`.
    """
    found: tuple[TokenLayout, Tensor] | None = None

    def check_targets(stream: Tensor) -> None:
        nonlocal found
        if view.batch_first and stream.shape[0] != inputs.shape[0]:
            raise UnsupportedModelError(
                f"{view.name} carries a stream of shape {list(stream.shape)} for a batch of {inputs.shape[0]}; tokens "
                "may come first only where nn.MultiheadAttention(batch_first=False) says so: wrap the blocks so that "
                "the batch comes first"
            )
        if not inputs.is_floating_point() and inputs.dim() == 2 and stream.shape[1] != inputs.shape[1]:
            raise UnsupportedModelError(
                f"{view.name}: the blocks found carry {stream.shape[1]} tokens for {inputs.shape[1]} ids: "
                "they belong to another part of the model (a vision tower?), or tokens are added on the way; name the "
                "right ones as blocks=..."
            )
        if not view.batch_first and stream.shape[0] == stream.shape[1]:
            raise UnsupportedModelError(
                f"{view.name} has nn.MultiheadAttention(batch_first=False), and {stream.shape[0]} samples of as many "
                "tokens do not tell which axis is which: explain one sample more or fewer"
            )
        layout = observer.layout(stream)
        found = layout, targets.indices(layout, stream.shape[0], stream.device)

    with watch_layout(view, inputs) as observer:
        trace = trace_relevance(
            lambda: view.call(view.model, _usable(inputs), extra), view.model, view.blocks, Course(rule, layers),
            batch_first=view.batch_first, stop_early=view.stop_early, on_start=check_targets,
        )  # fmt: skip
    assert found is not None
    return Run(trace, tuple(layers), *found)


@contextmanager
def half_precision_explained(model: nn.Module) -> Iterator[None]:
    """Turn the error of a kernel that float16 lacks on this device into one that says what to do."""
    try:
        yield
    except RuntimeError as error:
        if "not implemented for 'Half'" not in str(error):
            raise
        raise ValueError(
            f"{type(model).__name__} is in float16, which this device cannot compute everywhere ({error}); "
            "use model.bfloat16() or model.float()"
        ) from error


def _usable(inputs: Tensor) -> Tensor:
    """Inputs made under inference mode cannot take part in a backward pass; a copy can."""
    return inputs.clone() if inputs.is_inference() else inputs
