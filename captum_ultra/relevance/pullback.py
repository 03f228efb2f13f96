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
from captum_ultra.relevance.autograd_errors import changed_in_place, vectorised
from captum_ultra.relevance.chunks import automatic_chunk
from captum_ultra.relevance.flow import Flow
from captum_ultra.relevance.trace import Trace

__all__ = ["Explained", "gradients", "in_chunks", "pull_back", "recorded"]

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
        chunk: targets pulled back at once; from a memory budget when None.
        progress: show a progress bar over the targets.
    """

    trace: Trace
    layer: int
    scores: Tensor
    chosen: Tensor
    start: Tensor | None = None
    chunk: int | None = None
    progress: bool = False

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

    One pull-back explains a chunk of targets: the cotangents of their scores, together with their relevance rows,
    are carried back to the relevance below the block.

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
    trace = explained.trace
    if explained.layer <= to:  # no block passed: every token explains itself
        return explained.rows()
    relevance, source = trace.relevance[explained.layer], trace.sources[to]

    def pull(row: Tensor, chosen: Tensor, scaled: Tensor) -> Tensor:
        outputs, seeds = (relevance,), (row,)
        if flow.rule.sees != "nothing":
            outputs, seeds = (relevance, scaled), (row, chosen)  # type: ignore[assignment]
        return torch.autograd.grad(outputs, source, seeds, retain_graph=True)[0]

    trace.ledger.flow = flow
    try:
        found = in_chunks(explained, pull)
    finally:
        trace.ledger.flow = None
    trace.ledger.check_backward()
    return found


def in_chunks(
    explained: Explained, pull: Callable[[Tensor, Tensor, Tensor], Tensor], *, linear: bool = False
) -> Tensor:
    """What a pull-back of single targets finds, for all of them in chunks: [B, T, ...].

    Args:
        explained: the targets.
        pull: (a target's row [B, n], its cotangent [B, K] of the scores, the scores) -> [B, ...], by
            ``torch.autograd.grad``.
        linear: whether what it finds is a linear map of the cotangent, rather than what blocks make of gradients.
    """
    trace, rows, scores = explained.trace, explained.rows(), explained.scores
    targets = explained.chosen.shape[1]
    chunk = min(targets, explained.chunk or automatic_chunk(trace.latents[explained.layer]))
    found = []
    with recorded(scores.device), tqdm(
        total=targets, desc=f"layer {explained.layer}", unit="token", disable=not explained.progress
    ) as bar:  # fmt: skip
        for part in torch.arange(targets).split(chunk):
            of_rows = rows[:, part].transpose(0, 1)
            of_scores = one_hot(explained.chosen[:, part], scores.shape[1]).transpose(0, 1).to(scores)  # [T, B, K]
            scales = _gradient_scales(explained, of_scores)  # [T, B], or None
            trace.ledger.gradient_scale = 1.0 if scales is None else scales
            if scales is not None:
                of_scores = of_scores * scales[..., None]
            if len(part) == 1:  # a single target needs no vectorisation at all
                pulled = pull(of_rows[0], of_scores[0], scores)[None]
            else:
                with vectorised():
                    pulled = torch.func.vmap(pull, (0, 0, None))(of_rows, of_scores, scores)
            found.append((trace.ledger.unscale(pulled) if linear else pulled).transpose(0, 1))
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


def _gradient_scales(explained: Explained, of_scores: Tensor) -> Tensor | None:
    """Powers of two [T, B] that bring float16 gradients to about one, where they do not underflow.

    Every target of every sample has its own: a probability near one has a gradient many orders below its neighbour's.

    Args:
        explained: the targets.
        of_scores: one-hot cotangents of the scores [T, B, K].
    """
    scores, latents = explained.scores, explained.trace.latents[explained.layer]
    if latents.dtype != torch.float16 or not scores.requires_grad:
        return None

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
