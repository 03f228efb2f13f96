"""One traced run of a model for an attribution method."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from captum_ultra.adapters import TokenLayout, TransformerView, watch_layout
from captum_ultra.attr.targets import Targets
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance import Course, Trace, rollout, trace_relevance

__all__ = ["Run", "follow", "half_precision_explained", "layout_of", "run_traced"]


@dataclass(frozen=True)
class Run:
    """A trace with the tokens of its input: the explained layers, the layout, the target indices [B, T]."""

    trace: Trace
    layers: tuple[int, ...]
    layout: TokenLayout
    indices: Tensor


def run_traced(view: TransformerView, inputs: Tensor, extra: Any, course: Course, targets: Targets) -> Run:
    """Run the model as far as the course goes; targets are checked when the first block starts.

    Args:
        view: of the model.
        inputs: of the model.
        extra: Captum's ``additional_forward_args``.
        course: what is followed, and to which layers.
        targets: the tokens that are explained.

    Raises:
        ValueError: for tokens that do not exist, or latents that are not finite.
        UnsupportedModelError: see :func:`captum_ultra.relevance.trace_relevance`.
    """
    found: list[Tensor] = []

    def check_targets(layout: TokenLayout, stream: Tensor) -> None:
        found.append(targets.indices(layout, stream.shape[0], stream.device))

    trace, layout = follow(view, inputs, extra, course, on_layout=check_targets, stop_early=True)
    return Run(trace, tuple(course.layers), layout, found[0])


def layout_of(view: TransformerView, inputs: Tensor, extra: Any = None) -> TokenLayout:
    """How the tokens of an input are laid out; runs the model up to its first block."""
    return follow(view, inputs, extra, Course(rollout, [0]), stop_early=True)[1]


def follow(
    view: TransformerView, inputs: Tensor, extra: Any, course: Course, *,
    on_layout: Callable[[TokenLayout, Tensor], None] = lambda layout, stream: None,
    on_output: Callable[[Any], None] = lambda output: None, stop_early: bool = False,
) -> tuple[Trace, TokenLayout]:  # fmt: skip
    """Run the model once under a course.

    Args:
        view: of the model.
        inputs: of the model.
        extra: Captum's ``additional_forward_args``.
        course: what is followed.
        on_layout: called with the layout and the stream [B, n, d] before the first block runs; may raise.
        on_output: called with what the model returns, while its parameters are still constants.
        stop_early: end the run after the highest layer of the course, where the view allows it.
    """
    layouts: list[TokenLayout] = []

    def start(stream: Tensor) -> None:
        _check_stream(view, inputs, stream)
        layouts.append(observer.layout(stream))
        on_layout(layouts[0], stream)

    with watch_layout(view, inputs) as observer:
        trace = trace_relevance(
            lambda: on_output(view.call(view.model, _usable(inputs), extra)), view.model, view.blocks, course,
            batch_first=view.batch_first, stop_early=stop_early and view.stop_early, on_start=start,
        )  # fmt: skip
    return trace, layouts[0]


def _check_stream(view: TransformerView, inputs: Tensor, stream: Tensor) -> None:
    """Raise where the stream [B, n, d] that enters the first block is not one of these inputs."""
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
