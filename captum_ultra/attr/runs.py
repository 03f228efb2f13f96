"""The runs of a model that explanations of one input need, each made once, however many methods ask for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from captum_ultra.adapters import TokenLayout, TransformerView, watch_layout
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance import AttentionInterceptor, TokenTransformation, Trace, trace_run
from captum_ultra.relevance.lrp import Linearisation, LinearRules, Propagation

__all__ = ["Attended", "Kind", "Need", "Propagated", "Run", "Runs", "follow", "half_precision_explained", "layout_of"]


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

    def again(self) -> Any:
        """What the model returns for the same inputs."""
        return self.view.call(self.view.model, self.inputs, self.extra)

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
            # Its gradients are relevances, which do not tell where the patches are.
            self._layout = self._layout or layout_of(self.view, inputs, self.extra)
            inputs = graph.begin_with_pixels(inputs.detach().clone().requires_grad_())

        def read(output: Any) -> None:
            found.append(None if self.read is None else self.read(output))

        trace, self._layout = follow(
            self.view, inputs, self.extra, graph, need.layers, first=need.first, on_layout=self._on_start,
            on_output=read, stop_early=self.read is None, layout=self._layout,
        )  # fmt: skip
        return Run(trace, found[0] if found else None, graph)


def _graph(kind: Kind, runs: Runs) -> Any:
    if isinstance(kind, Attended):
        return AttentionInterceptor(TokenTransformation() if kind.observed else None)
    if isinstance(kind, LinearRules):
        return Linearisation(runs.model, kind)
    return Propagation(runs.model, kind.published, runs.view.batch_first)


def layout_of(view: TransformerView, inputs: Tensor, extra: Any = None) -> TokenLayout:
    """How the tokens of an input are laid out; runs the model up to its first block."""
    return follow(view, inputs, extra, AttentionInterceptor(), [0])[1]


def follow(
    view: TransformerView, inputs: Tensor, extra: Any, graph: Any, layers: Sequence[int], *, first: int = 0,
    on_layout: Callable[[TokenLayout, Tensor], None] = lambda layout, stream: None,
    on_output: Callable[[Any], None] = lambda output: None, stop_early: bool = True, layout: TokenLayout | None = None,
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
        layout: of the tokens, where it is known already.
    """
    layouts: list[TokenLayout] = []

    def start(stream: Tensor) -> None:
        _check_stream(view, inputs, stream)
        layouts.append(observer.layout(stream) if layout is None else layout)
        on_layout(layouts[0], stream)

    with watch_layout(view, inputs) as observer:
        trace = trace_run(
            lambda: on_output(view.call(view.model, _usable(inputs), extra)), view.model, view.blocks, graph, layers,
            first=first, batch_first=view.batch_first, stop_early=stop_early and view.stop_early, on_start=start,
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
