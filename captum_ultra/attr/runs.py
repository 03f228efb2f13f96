"""The runs of a model that explanations of one input need, each made once, however many methods ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.adapters import TokenLayout, TransformerView, check_stream
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance import AttentionInterceptor, TokenTransformation, Trace, trace_run
from captum_ultra.relevance.lrp import Linearisation, LinearRules, Propagation
from captum_ultra.relevance.padding import padding_of_run

__all__ = [
    "Attended", "Kind", "Need", "Propagated", "Run", "Runs", "follow", "half_precision_explained", "layout_of",
    "padding_of",
]  # fmt: skip


@dataclass(frozen=True)
class Attended:
    """A run in which attention carries relevance.

    Attributes:
        observed: whether it is noted how every sublayer changes its tokens.
    """

    observed: bool = False


@dataclass(frozen=True)
class Propagated:
    """A run whose gradients are relevances (layer-wise relevance propagation).

    Attributes:
        published: whether by the rules of the published baselines.
        pixels: whether relevance goes down to the input, else to the tokens that enter the first block.
    """

    published: bool = False
    pixels: bool = False


Kind = Attended | Propagated | LinearRules


@dataclass(frozen=True)
class Need:
    """What a method needs of a run: its kind, from which block on, and the latents of which layers."""

    kind: Kind
    first: int
    layers: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Run:
    """One run of a kind.

    Attributes:
        trace: with the latents of the layers that were needed.
        logits: what was read off the model's output [B, K], or why nothing could be; None where nobody asked.
        graph: what followed it.
    """

    trace: Trace
    logits: Tensor | UnsupportedModelError | None
    graph: Any


class Runs:
    """Runs of one model on one input.

    Args:
        view: of the model.
        model: that was asked for the explanation.
        inputs: of the model.
        extra: Captum's ``additional_forward_args``.
        needs: of all methods that will ask.
        on_start: called with the layout and the stream [B, n, d] before the first block runs; may raise.
        read: from what the model returns to class scores [B, K]; None ends runs after the highest layer.
    """

    def __init__(
        self, view: TransformerView, model: nn.Module, inputs: Tensor, extra: Any, needs: Iterable[Need], *,
        on_start: Callable[[TokenLayout, Tensor], None], read: Callable[[Any], Any] | None,
    ) -> None:  # fmt: skip
        self.view, self.model, self.inputs, self.extra, self.read = view, model, inputs, extra, read
        self._on_start = on_start
        self._needs: dict[Kind, Need] = {}
        for need in needs:
            self._add(need)
        self._made: dict[Kind, Run] = {}
        self._layout: TokenLayout | None = None

    @property
    def layout(self) -> TokenLayout:
        """Of the tokens; known once the model has run."""
        assert self._layout is not None
        return self._layout

    def of(self, kind: Kind) -> Run:
        """The run of a kind, made when it is first asked for."""
        need = self._needs[self._serving(kind)]
        if need.kind not in self._made:
            self._made[need.kind] = self._make(need)
        return self._made[need.kind]

    @cached_property
    def padding(self) -> Tensor:
        """True for the tokens [B, n] that are padding; of texts, runs the model up to the end of its first block."""
        if self.inputs.dim() == 4 and self.extra is None:
            return torch.zeros(len(self.inputs), self.layout.tokens, dtype=torch.bool)
        return padding_of(self.view, self.inputs, self.extra)

    def again(self) -> Any:
        """What the model returns for the same inputs."""
        return self.view.call(self.view.model, self.inputs.clone(), self.extra)

    def _serving(self, kind: Kind) -> Kind:
        """An observed run serves as one that is not."""
        return Attended(observed=True) if kind == Attended() and Attended(observed=True) in self._needs else kind

    def _add(self, need: Need) -> None:
        if need.kind == Attended(observed=True) and Attended() in self._needs:
            self._needs[need.kind] = self._needs.pop(Attended())
        kind = self._serving(need.kind)
        before = self._needs.get(kind, need)
        layers = tuple(sorted({*before.layers, *need.layers}))
        self._needs[kind] = Need(kind, min(before.first, need.first), layers)

    def _make(self, need: Need) -> Run:
        graph = _graph(need.kind, self)
        found: list[Any] = []
        inputs = self.inputs
        if isinstance(need.kind, Propagated) and need.kind.pixels:
            inputs = graph.begin_with_pixels(inputs.detach().clone().requires_grad_())

        def read(output: Any) -> None:
            found.append(None if self.read is None else self.read(output))

        trace, self._layout = follow(
            self.view, inputs, self.extra, graph, need.layers, first=need.first, on_layout=self._on_start,
            on_output=read, stop_early=self.read is None,
        )  # fmt: skip
        return Run(trace, found[0] if found else None, graph)


def _graph(kind: Kind, runs: Runs) -> Any:
    if isinstance(kind, Attended):
        return AttentionInterceptor(TokenTransformation() if kind.observed else None)
    if isinstance(kind, LinearRules):
        return Linearisation(runs.model, kind)
    return Propagation(runs.model, kind.published, runs.view.batch_first)


def layout_of(view: TransformerView, inputs: Tensor, extra: Any = None) -> TokenLayout:
    """How the tokens of an input are laid out; runs the model up to its first block where that is not known."""
    if view.findings and view.findings.layout:
        return view.findings.layout
    return follow(view, inputs, extra, AttentionInterceptor(), [0])[1]


def padding_of(view: TransformerView, inputs: Tensor, extra: Any = None) -> Tensor:
    """True for the tokens [B, n] that the model masks as padding; runs it up to the end of its first block."""
    return padding_of_run(
        lambda: view.call(view.model, inputs.clone(), extra), view.model, view.blocks, batch_first=view.batch_first,
        stop_early=view.stop_early,
    )  # fmt: skip


def follow(
    view: TransformerView, inputs: Tensor, extra: Any, graph: Any, layers: Sequence[int], *, first: int = 0,
    on_layout: Callable[[TokenLayout, Tensor], None] = lambda layout, stream: None,
    on_output: Callable[[Any], None] = lambda output: None, stop_early: bool = True,
) -> tuple[Trace, TokenLayout]:  # fmt: skip
    """Run the model once through a graph.

    Args:
        view: of the model.
        inputs: of the model.
        extra: Captum's ``additional_forward_args``.
        graph: as in :func:`captum_ultra.relevance.trace_run`.
        layers: whose latents are kept.
        first: the block at which following begins.
        on_layout: called with the layout and the stream [B, n, d] before the first block runs; may raise.
        on_output: called with what the model returns, within the graph.
        stop_early: end the run after the highest layer, where the view allows it.
    """
    layouts: list[TokenLayout] = []

    def start(stream: Tensor) -> None:
        check_stream(view, inputs, stream, bool(view.findings and view.findings.adds_tokens) or None)
        known = view.findings and view.findings.layout
        if known and known.tokens != stream.shape[1]:
            raise UnsupportedModelError(
                f"{view.name} makes {stream.shape[1]} tokens of one image and {known.tokens} of another of the same "
                "size, so that the places of its patches are not known; explain one image at a time, "
                "with a new explainer"
            )
        layouts.append(known or TokenLayout(stream.shape[1]))
        on_layout(layouts[0], stream)

    # A model may change its input in place, and one made under inference mode cannot take part in a backward pass.
    trace = trace_run(
        lambda: on_output(view.call(view.model, inputs.clone(), extra)), view.model, view.blocks, graph, layers,
        first=first, batch_first=view.batch_first, stop_early=stop_early and view.stop_early,
        by_token=bool(view.findings and view.findings.probed and view.findings.finite), on_start=start,
    )  # fmt: skip
    return trace, layouts[0]


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
