"""From explained scalars back through a trace: batched pull-backs, one relevance row or one gradient a target."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.utils.checkpoint import CheckpointError
from tqdm import tqdm

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.autograd_errors import changed_in_place
from captum_ultra.relevance.chunks import automatic_chunk
from captum_ultra.relevance.descent import Descent
from captum_ultra.relevance.flow import Flow
from captum_ultra.relevance.start import Start
from captum_ultra.relevance.trace import Trace

__all__ = ["Explained", "gradients", "gradients_below", "pull_back", "recorded"]

_LOWEST = 96  # binary orders of magnitude below one; no gradient of float16 latents is searched for further down


@dataclass(frozen=True, eq=False)
class Explained:
    """What is explained of a run: T scalars a sample, and where their relevance begins.

    Attributes:
        trace: the run.
        layer: number of blocks passed where relevance begins.
        scores: [B, K] in the trace's graph; each target is one of them.
        chosen: [B, T], which.
        start: the relevance row of every target, [B, n] or one for each [B, T, n]; None: all of it at the token of the
            target's number.
        tokens: [B, T], the tokens of a layer of which alone the targets are made; None where they are made of several,
            or where that is not known.
        chunk: targets pulled back at once; from a memory budget when None.
        progress: show a progress bar over the targets.
    """

    trace: Trace
    layer: int
    scores: Tensor
    chosen: Tensor
    start: Tensor | None = None
    tokens: Tensor | None = None
    chunk: int | None = None
    progress: bool = False

    def automatic_chunk(self) -> int:
        """How many targets to pull back at once."""
        return automatic_chunk(self.trace.latents[self.layer], self.chosen.shape[1], self.trace.widest)

    def rows(self) -> Tensor:
        """The relevance rows [B, T, n] of the targets at their layer."""
        batch, targets = self.chosen.shape
        latents = self.trace.latents[self.layer]
        dtype = torch.promote_types(latents.dtype, torch.float32)
        if self.start is None:
            return one_hot(self.chosen, latents.shape[1]).to(dtype)
        start = self.start if self.start.dim() == 3 else self.start[:, None]
        return start.to(dtype).expand(batch, targets, -1)


def pull_back(explained: Explained, flow: Flow, to: int = 0) -> Tensor:
    """Rows [B, T, n] of what comes down, by a flow, from the explained layer to below a block.

    The gradients of a chunk of targets go down together, and their relevance rows with them.

    Args:
        explained: the targets.
        flow: what becomes of relevance on its way.
        to: the block, from ``trace.first`` on.

    Returns:
        At least float32; the self entry included as the residual connection leaves it.

    Raises:
        ValueError: if a gradient is not finite; names the block.
        UnsupportedModelError: if the model recomputes its blocks (activation checkpointing), or cuts gradients off.
    """
    if explained.layer <= to:  # no block passed: every token explains itself
        return explained.rows()
    found = _in_chunks(explained, Descent(explained.trace, flow, explained.layer, to))
    explained.trace.ledger.check_backward()
    return found


def gradients_below(explained: Explained, read: Callable[[int, Tensor], Tensor | None], to: int = 0) -> Tensor:
    """What is made of the targets' gradients with respect to the latents of layers, summed over layers: [B, T, ...].

    Args:
        explained: the targets.
        read: (layer, gradient [T, B, n, d]) -> [T, B, ...], linear in the gradient, or None; called for all layers
            that gradients come by, from ``to`` on.
        to: the lowest layer.

    Raises:
        UnsupportedModelError: as :func:`pull_back`; and if no gradient reaches any of them.
    """
    sums: list[Tensor] = []

    def add(layer: int, gradient: Tensor) -> None:
        found = read(layer, gradient)
        if found is not None:
            sums[:] = [found if not sums else sums[0] + found]

    def taken(rows: Tensor) -> Tensor:
        trace = explained.trace
        if not sums and trace.ledger.cut_below:
            add(to, torch.zeros_like(trace.latents[to]).expand(len(rows), *trace.latents[to].shape))
        if not sums:
            raise UnsupportedModelError(
                "what is explained does not depend on the stream that enters the first block: the blocks belong to "
                "another part of the model, or it switches gradients off"
            )
        return trace.ledger.unscale(sums.pop())

    return _in_chunks(explained, Descent(explained.trace, to=to, read=add), taken)


def _in_chunks(explained: Explained, way: Descent, taken: Callable[[Tensor], Tensor] = lambda rows: rows) -> Tensor:
    """What is ``taken`` [T, B, ...] of the rows of a chunk after its descent, for all targets: [B, T, ...]."""
    trace, rows, scores = explained.trace, explained.rows(), explained.scores
    targets = explained.chosen.shape[1]
    chunk = explained.chunk or explained.automatic_chunk()
    found = []
    with recorded(scores.device), tqdm(
        total=targets, desc=f"layer {explained.layer}", unit="token", disable=not explained.progress
    ) as bar:  # fmt: skip
        sees = way.flow is None or way.flow.rule.sees != "nothing"
        scales = _gradient_scales(explained) if sees else None  # [T, B], or None
        start = Start(trace, scores, explained.chosen, scales, explained.tokens) if sees else None
        for part in torch.arange(targets, device=scores.device).split(chunk):
            trace.ledger.gradient_scale = 1.0 if scales is None else scales[part]
            below = way.go({} if start is None else start.of(part), rows[:, part].transpose(0, 1))
            assert below is not None
            found.append(taken(below).transpose(0, 1))
            bar.update(len(part))
    return torch.cat(found, dim=1)


@contextmanager
def recorded(device: torch.device) -> Iterator[None]:
    """Within: a graph may be pulled back, in its own precision.

    Raises:
        UnsupportedModelError: if the model recomputes its blocks (activation checkpointing).
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device.type, enabled=False):
        try:
            with changed_in_place():
                yield
        except CheckpointError as error:
            raise UnsupportedModelError(
                "the model recomputes its blocks during the backward pass (activation checkpointing), outside the "
                "explanation's control: switch checkpointing off"
            ) from error


def gradients(scores: Tensor, inputs: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of the sum of scores with respect to latents; the graph is kept.

    Raises:
        UnsupportedModelError: if the scores do not depend on one of them.
    """
    with recorded(scores.device):
        found = torch.autograd.grad(scores.sum(), list(inputs), retain_graph=True, allow_unused=True)
    if any(each is None for each in found):
        raise UnsupportedModelError(
            "the model's output does not depend on its latents: it is detached, or comes from another part of the model"
        )
    return list(found)


def _gradient_scales(explained: Explained) -> Tensor | None:
    """Powers of two [T, B] that bring float16 gradients to about one, where they do not underflow.

    Every target of every sample has its own: a probability near one has a gradient many orders below its neighbour's.
    """
    scores, latents = explained.scores, explained.trace.latents[explained.layer]
    if latents.dtype != torch.float16 or not scores.requires_grad:
        return None
    of_scores = one_hot(explained.chosen, scores.shape[1]).transpose(0, 1).to(scores)  # [T, B, K]

    def largest(cotangent: Tensor) -> Tensor:
        (gradient,) = torch.autograd.grad(scores, latents, cotangent, retain_graph=True, allow_unused=True)
        return scores.new_zeros(len(latents)) if gradient is None else gradient.abs().flatten(1).amax(1).to(scores)

    highest = math.log2(torch.finfo(scores.dtype).max) - 1
    raised = scores.new_zeros(of_scores.shape[:2])  # log2 of what had to be put in for a gradient to come out
    for power in range(0, _LOWEST, 24):
        found = torch.stack([largest(each) for each in of_scores * (2.0**raised)[..., None]])
        lost = found == 0
        if power + 24 > highest or not lost.any():
            break
        raised = raised.where(~lost, float(power + 24))
    known = found.isfinite() & ~lost
    exponents = (raised - found.where(known, found.new_ones(())).log2().round()).clamp(max=highest)
    return (2.0**exponents).where(known, exponents.new_ones(()))
