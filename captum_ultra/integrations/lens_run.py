"""Relevance threaded through a run that somebody else started: hooks for ``run_with_hooks``.

The hooks stand on the hook points that HookedTransformer and TransformerBridge share, so that they work
by name and not by class. What is explained is the model as the caller's own hooks have changed it:
when the run starts, the hooks here move behind all others on their hook points, and so see the
attention and the residual stream as the model goes on with them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from captum_ultra.adapters.transformer_lens import hook_in, hooks_of_others
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance import Trace
from captum_ultra.relevance.lrp import Linearisation
from captum_ultra.relevance.probabilities import ExplicitAttention
from captum_ultra.relevance.trace import check_connected

__all__ = ["HookedRun", "depth_of"]

# Bridges name the residual hooks hook_in and hook_out, and know HookedTransformer's names as aliases.
_NAMES = {
    "enter": ("hook_resid_pre", "hook_in"),
    "fresh_pattern": ("attn.hook_pattern",),
    "follow_pattern": ("attn.hook_pattern",),
    "leave_attention": ("hook_attn_out", "attn.hook_out"),
    "leave": ("hook_resid_post", "hook_out"),
}
_FIRST = "fresh_pattern"  # stands before the caller's hooks; all others behind them
_OPTIONAL = "leave_attention"


@dataclass(frozen=True)
class _Hook:
    """One hook function; a class of its own, so that a run recognises its hooks among others."""

    follows_relevance: ClassVar[bool] = True
    run: HookedRun
    step: str
    block: int

    def __call__(self, tensor: Tensor, hook: Any) -> Tensor | None:
        return getattr(self.run, self.step)(self.block, tensor)


class HookedRun:
    """Follows one run of a hooked model and keeps what the pull-backs from ``layers`` need.

    Args:
        model: a module with ``hook_dict`` (HookedTransformer, TransformerBridge, HookedRootModule).
        layers: numbers of blocks passed, each 0..depth.
        make_graph: makes what gives the run's operations a backward pass of another kind; None lets them have their
            own, and follows relevance through the attention patterns.

    Attributes:
        graph: what was made, between :meth:`open` and :meth:`close`.

    Raises:
        UnsupportedModelError: if a hook point that is needed does not exist.
    """

    def __init__(
        self, model: nn.Module, layers: Sequence[int], make_graph: Callable[[], Linearisation] | None = None
    ) -> None:
        self._layers, self._last, self._make_graph = set(layers), max(layers), make_graph
        self.graph: Linearisation | None = None
        self._model, self._points = model, _points(model)
        self._places = list(_places(self._points, self._last))
        self.clear()

    def clear(self) -> None:
        """Forget the run, so that its graph is freed and another one can be followed."""
        self._trace: Trace | None = None
        self._passed = 0
        self._attended = False

    def open(self) -> None:
        """From here on operations in this thread have the backward pass of the graph, if one is needed."""
        if self._make_graph is not None:
            self.graph = self._make_graph()
            self.graph.__enter__()

    def close(self, *error: Any) -> None:
        """Operations are their own again; what was followed stays."""
        graph, self.graph = self.graph, None
        if graph is not None:
            graph.__exit__(*error)

    @property
    def fwd_hooks(self) -> list[tuple[str, Callable[..., Tensor | None]]]:
        """Pairs (name, hook) for ``run_with_hooks`` or ``hooks``; made anew, so that no cycle keeps a graph alive."""
        return [(name, _Hook(self, step, block)) for name, step, block in self._places]

    def finish(self) -> Trace:
        """The trace of the run that was followed.

        Raises:
            ValueError: if there was no run, it ended too early, or latents are not finite.
        """
        if self._trace is None:
            raise ValueError(
                "no run has been followed yet: model.run_with_hooks(tokens, fwd_hooks=[*yours, *relevance.fwd_hooks])"
            )
        if self._last not in self._trace.latents:
            raise ValueError(
                f"the run ended after {self._passed} blocks, before layer {self._last}: raise stop_at_layer, or ask "
                "for a lower layer"
            )
        self._trace.ledger.check_forward()
        return self._trace

    # The steps of a run, each called by the hook of that name.

    def enter(self, block: int, stream: Tensor) -> Tensor | None:
        if block == 0:
            self._begin(stream)
        if self._trace is None or block != self._passed:
            raise ValueError(
                f"block {block} ran after {self._passed} blocks; relevance is followed from the first block on, each "
                "block once: run the whole model (no start_at_layer), one forward pass"
            )
        self._attended = self.graph is not None  # which needs no pattern
        if block == 0 and self.graph is not None:
            entering = self.graph.begin(self._trace, stream)
        else:
            entering = self._cut(block, stream)
        if self.graph is not None:
            self.graph.enter(block, self._model, entering)
        return entering

    def fresh_pattern(self, block: int, pattern: Tensor) -> Tensor | None:
        """A copy that may be edited in place: the softmax still needs what it put out for its own backward pass."""
        return pattern.clone() if hooks_of_others(self._points[f"blocks.{block}.attn.hook_pattern"]) else None

    def follow_pattern(self, block: int, pattern: Tensor) -> Tensor:
        if self.graph is not None:
            return pattern.detach() if self.graph.rules.attention == "constant" else pattern
        trace, (samples, tokens) = self._running(), self._running().latents[0].shape[:2]
        if self._attended:
            raise UnsupportedModelError(
                f"the attention of block {block} fires its hook_pattern more than once (cross-attention?); relevance "
                "needs one self-attention a block: explain an encoder or a decoder-only model"
            )
        if pattern.dim() != 4 or pattern.shape[0] != samples or pattern.shape[2:] != (tokens, tokens):
            raise UnsupportedModelError(
                f"hook_pattern of block {block} holds {list(pattern.shape)} where [{samples}, heads, "
                f"{tokens}, {tokens}] is expected: run all tokens in one forward pass, without key-value cache "
                "(use_past_kv_cache, past_kv_cache, generate)"
            )
        self._attended = True
        return trace.cuts.attention(pattern, ExplicitAttention(pattern, trace.ledger, block), block, through=True)

    def leave_attention(self, block: int, output: Tensor) -> None:
        self._check_pattern(block)

    def leave(self, block: int, stream: Tensor) -> Tensor | None:
        self._check_pattern(block)
        self._passed = block + 1
        if self.graph is not None:
            return self.graph.leave(self._running(), block, self._model, stream, self._passed in self._layers)
        if self._passed == self._last:  # a lower one is cut where the next block receives it
            return self._cut(self._passed, stream)
        self._running().ledger.note_forward(self._passed, stream)
        return None

    def _begin(self, stream: Tensor) -> None:
        """A trace, from the stream that enters the first block."""
        if self._trace is not None and self._last in self._trace.latents:
            raise ValueError(
                "a second forward pass came while the first one is still kept (generation, or several calls under one "
                "hooks context): call clear() before another run, or make other relevance_hooks(...)"
            )
        if not torch.is_grad_enabled() or stream.is_inference():
            raise ValueError(
                "the model runs without gradients (torch.no_grad, inference_mode, set_grad_enabled(False)), which "
                "relevance needs: run it under torch.enable_grad(), outside of inference mode"
            )
        if stream.dim() != 3:
            raise ValueError(
                f"the residual stream has shape {list(stream.shape)} where [batch, tokens, channels] is expected: run "
                "with a batch dimension (remove_batch_dim=False)"
            )
        if self._make_graph is not None and self.graph is None:
            raise ValueError(
                "the method gives the operations of the run a backward pass of their own: run the model within the "
                "hooks, `with relevance: model.run_with_hooks(...)`"
            )
        self.clear()
        self._trace = Trace()
        self._move_behind_others()

    def _cut(self, layer: int, stream: Tensor) -> Tensor:
        """Cut the stream as it goes on: what a hook before the next block makes of it replaces what the last left."""
        trace, wanted = self._running(), layer in self._layers
        if trace.latents and stream.shape[:2] != trace.latents[0].shape[:2]:
            raise UnsupportedModelError(
                f"the residual stream at layer {layer} holds {list(stream.shape[:2])} (batch, tokens) where "
                f"{list(trace.latents[0].shape[:2])} went in; tokens must keep their places"
            )
        cut_below = trace.ledger.cut_below
        # Patched as a whole, it holds nothing of the input; with attention as a constant, nothing above it does.
        if layer > cut_below and not (self.graph is not None and cut_below):
            check_connected(stream, f"the residual stream at layer {layer}")
        if self.graph is not None:
            return self.graph.cut(layer, stream, wanted)
        return trace.cut(layer, stream, keep=wanted or layer == 0, through=True)

    def _check_pattern(self, block: int) -> None:
        """Delegating bridges fire hook_pattern never (sdpa), or too late for an edit to have an effect (eager)."""
        if not self._attended:
            raise UnsupportedModelError(
                f"hook_pattern of block {block} did not fire before its attention was done: this model delegates its "
                "attention to another library's module, where hooks on the pattern have no effect. Explain it with "
                "LatentTokenAttribution(model), or load it with an attention that TransformerLens computes itself"
            )

    def _move_behind_others(self) -> None:
        """Put the hooks of this run last on their hook points, and note where the caller intervenes."""
        found, ledger = set(), self._running().ledger
        for name, point in self._points.items():
            for key, registered in list(point._forward_hooks.items()):
                hook = hook_in(registered)
                if hook is not None and hook.run is self:
                    found.add((hook.step, hook.block))
                    point._forward_hooks.move_to_end(key, last=hook.step != _FIRST)
            place = re.match(r"blocks\.(\d+)\.", name)
            # Only what went through add_hook is an intervention; bridges register hooks of their own past it.
            if place and any(hook_in(point._forward_hooks.get(handle.hook.id)) is None for handle in point.fwd_hooks):
                ledger.cut_below = max(ledger.cut_below, int(place[1]) + 1)
        # In higher blocks a bridge leaves out the hooks of what stop_at_layer keeps from running.
        if any(block == 0 and (step, block) not in found for _, step, block in self._places):
            raise ValueError(
                "not all of relevance.fwd_hooks are where they were asked for: pass the whole list as it is (no "
                "wrapping, remove_batch_dim=False)"
            )

    def _running(self) -> Trace:
        if self._trace is None:
            raise ValueError(
                "relevance is followed from the first block on: run the whole model, without start_at_layer"
            )
        return self._trace


def depth_of(model: Any) -> int:
    """Number of blocks, by the names of the hook points.

    Raises:
        UnsupportedModelError: if the model has no hook points, or none in blocks.
    """
    blocks = {int(place[1]) for name in _points(model) if (place := re.match(r"blocks\.(\d+)\.", name))}
    if not blocks:
        raise UnsupportedModelError(
            f"{type(model).__name__} has no hook points blocks.0. ..., on which relevance_hooks stand: use "
            "LatentTokenAttribution(model)"
        )
    return max(blocks) + 1


def _points(model: Any) -> dict[str, Any]:
    points = getattr(model, "hook_dict", None)
    if not isinstance(points, dict):
        raise UnsupportedModelError(
            f"{type(model).__name__} has no hook_dict; relevance_hooks are for HookedTransformer, "
            "TransformerBridge and other HookedRootModules: for other models use LatentTokenAttribution(model)"
        )
    return points


def _places(points: dict[str, Any], last: int) -> Iterator[tuple[str, str, int]]:
    """(name of the hook point, step, block) for every hook that following ``last`` blocks takes."""
    for block in range(last + 1):
        for step, names in _NAMES.items():
            name = next((f"blocks.{block}.{each}" for each in names if f"blocks.{block}.{each}" in points), None)
            # The stream at layer `last` is seen once more where the next block receives it, if there is one.
            wanted = block < last or (step == "enter" and (name is not None or last == 0))
            if not wanted or (name is None and step == _OPTIONAL):
                continue
            if name is None:
                raise UnsupportedModelError(
                    f"there is no hook point blocks.{block}.{names[0]}; relevance_hooks need hook_resid_pre, "
                    "attn.hook_pattern and hook_resid_post in every block: use LatentTokenAttribution(model)"
                )
            # By its own name: under an alias a bridge in compatibility mode calls a hook twice.
            yield points[name].name or name, step, block
