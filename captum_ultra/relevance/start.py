"""Where the gradients of many targets begin: one pass for all of them, where every target is made of one token alone.

What follows the last attention that an explained token comes through is token by token. The gradient of the sum of
all scores then holds, row by row, what is each target's own; so that part of a model is pulled back once, not once a
target. Where that is not known, every target is pulled back by itself.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from captum_ultra.relevance.cuts import Pulled, RowGradient
from captum_ultra.relevance.descent import Gradient, pull
from captum_ultra.relevance.trace import Trace

__all__ = ["Start"]


class Start:
    """Gradients of targets at the first cuts that they come to.

    Args:
        trace: the run.
        scores: [B, K] in its graph.
        chosen: which of them each target is [B, T].
        scales: what the gradients of targets are multiplied by [T, B], or None.
        tokens: the token of which alone each target is made [B, T], where that is known.
    """

    def __init__(
        self, trace: Trace, scores: Tensor, chosen: Tensor, scales: Tensor | None = None, tokens: Tensor | None = None
    ) -> None:
        self._trace, self._scores, self._chosen = trace, scores, chosen
        self._weights = chosen.new_ones(chosen.shape, dtype=scores.dtype) if scales is None else scales.T.to(scores)
        self._edges = [get_gradient_edge(scores)] if scores.requires_grad else []
        self._reached = trace.cuts.reached_by(self._edges)
        self._together = self._shared(tokens) if tokens is not None and trace.by_token else None

    def of(self, part: Tensor) -> dict[int, Gradient]:
        """Number of a cut -> the gradient [T, ...] there, of some of the targets."""
        if self._together is not None:
            return self._together(part)
        index, weights = (each[:, part].T[..., None] for each in (self._chosen, self._weights))
        of_scores = self._scores.new_zeros(len(part), *self._scores.shape).scatter_(2, index, weights)
        found = self._pull([(edge, of_scores) for edge in self._edges], self._reached) if self._reached else []
        return {number: each for number, each in zip(self._reached, found, strict=True) if each is not None}

    def _shared(self, tokens: Tensor) -> Callable[[Tensor], dict[int, Gradient]] | None:
        """The same from one pass for all targets; None where the block below is not known to allow it."""
        place = self._last_block()
        if place is None or not _same_targets(self._chosen, tokens):
            return None
        stream, attention, entering = place
        # A target that is asked for twice counts once: both are given the same row.
        of_scores = torch.zeros_like(self._scores).scatter_(1, self._chosen, self._weights)
        (at_stream,) = self._pull([(edge, of_scores[None]) for edge in self._edges], [stream])
        if at_stream is None:
            return None
        left = [(edge, at_stream) for edge in self._trace.cuts[stream].below]
        of_output, of_stream = self._pull(left, [attention, entering])
        if of_output is None or of_stream is None:
            return None
        tokens = tokens.T.to(of_output.device)
        samples = torch.arange(tokens.shape[1], device=tokens.device)
        outputs = of_output[0].transpose(1, 2)[samples, tokens]  # [T, B, H, d_v]
        streams = of_stream[0][samples, tokens]  # [T, B, d]

        def of(part: Tensor) -> dict[int, Gradient]:
            whole = streams.new_zeros(len(part), *of_stream.shape[1:])
            whole[torch.arange(len(part), device=whole.device)[:, None], samples, tokens[part]] = streams[part]
            return {attention: RowGradient(outputs[part], tokens[part]), entering: whole}

        return of

    def _last_block(self) -> tuple[int, int, int] | None:
        """The cuts of what leaves the block that the targets come out of, of its attention, and of what enters it."""
        cuts = self._trace.cuts
        if len(self._reached) != 1:
            return None
        stream = cuts[self._reached[0]]
        attention = [number for number in stream.reaches if cuts[number].crossing is not None]
        entering = [number for number in stream.reaches if cuts[number].crossing is None]
        if stream.layer is None or len(attention) != 1 or len(entering) != 1:
            return None
        crossing = cuts[attention[0]].crossing
        if crossing is None or not crossing.by_row or cuts[entering[0]].layer != stream.layer - 1:
            return None
        return self._reached[0], attention[0], entering[0]

    def _pull(self, outputs: Pulled, numbers: list[int]) -> list[Tensor | None]:
        cuts = self._trace.cuts
        cuts.latch.closed = True
        try:
            return pull(outputs, [cuts[number].above for number in numbers])
        finally:
            cuts.latch.closed = False


def _same_targets(chosen: Tensor, tokens: Tensor) -> bool:
    """Whether targets of one token are one score: else their gradients would add up."""
    same_token = tokens[:, :, None] == tokens[:, None]
    return bool((same_token == (chosen[:, :, None] == chosen[:, None])).all())
