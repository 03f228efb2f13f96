"""From scores of latent tokens to relevance rows over the input tokens: batched pull-backs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError
from tqdm import tqdm

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.chunks import automatic_chunk
from captum_ultra.relevance.trace import Trace

__all__ = ["pull_back", "relevance_rows"]


def relevance_rows(
    trace: Trace, layer: int, score: Callable[[Tensor], Tensor], tokens: Tensor,
    *, chunk: int | None = None, progress: bool = False,
) -> Tensor:  # fmt: skip
    """Rows ``e_i C^(layer) ... C^(1)`` of the explanation matrix, for several targets a sample.

    One pull-back explains a chunk of targets: the cotangent of the score of token i, together
    with e_i at the relevance vector, is carried back to the relevance below the first block.

    Args:
        trace: a run that kept ``layer``.
        layer: number of blocks passed.
        score: latents [B, n, d] -> the explained scalar of every token [B, n].
        tokens: target tokens [B, T], one row a sample.
        chunk: targets per pull-back; from a memory budget when None.
        progress: show a progress bar over the targets.

    Returns:
        [B, T, n] in at least float32, the self entry included as the residual connection leaves it.

    Raises:
        ValueError: if a gradient is not finite; names the block.
        UnsupportedModelError: if the model recomputes its blocks (activation checkpointing).
    """
    targets = tokens.shape[1]
    latents, relevance = trace.latents[layer], trace.relevance[layer]
    if layer == 0:  # no block passed: every token explains itself
        return torch.nn.functional.one_hot(tokens, relevance.shape[1]).to(relevance.dtype)
    chunk = min(targets, chunk or automatic_chunk(latents))
    rows = []
    with ExitStack() as scope:
        scope.enter_context(torch.inference_mode(False))
        scope.enter_context(torch.enable_grad())
        scope.enter_context(torch.autocast(latents.device.type, enabled=False))
        bar = scope.enter_context(tqdm(total=targets, desc=f"layer {layer}", unit="token", disable=not progress))
        scores = score(latents)
        scores = scores * _set_gradient_scale(trace, scores, latents)
        for part in tokens.split(chunk, dim=1):
            rows.append(_pull_back(trace, scores, relevance, part))
            bar.update(part.shape[1])
    trace.ledger.check_backward()
    return torch.cat(rows, dim=1)


def pull_back(trace: Trace, scores: Tensor | None, seeds: Mapping[int, Tensor]) -> dict[int, Tensor]:
    """Relevance that arrives below every block where one begins, for one explained scalar a sample.

    Args:
        trace: a run that kept the layers of ``seeds``.
        scores: the explained scalar [B]; None for rules that see no gradient.
        seeds: layer -> the relevance row [B, n] to start from there.

    Returns:
        block -> [B, n] in at least float32.

    Raises:
        ValueError: if a gradient is not finite; names the block.
        UnsupportedModelError: if the model recomputes its blocks (activation checkpointing).
    """
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(trace.source.device.type, enabled=False):
        outputs = [trace.relevance[layer] for layer in seeds]
        starts = [seed.to(output) for seed, output in zip(seeds.values(), outputs, strict=True)]
        if scores is not None:
            scale = _set_gradient_scale(trace, scores, trace.streams[max(trace.streams)])
            outputs, starts = [*outputs, scores], [*starts, torch.full_like(scores, scale)]
        try:
            found = torch.autograd.grad(outputs, list(trace.sources.values()), starts, retain_graph=True)
        except CheckpointError as error:
            raise _recomputed() from error
    trace.ledger.check_backward()
    return dict(zip(trace.sources, found, strict=True))


def _pull_back(trace: Trace, scores: Tensor, relevance: Tensor, tokens: Tensor) -> Tensor:
    """Rows [B, T, n] of one chunk of targets; a single target needs no vectorisation at all."""

    def pull(seed: Tensor) -> Tensor:
        cotangents = (seed.to(scores), seed.to(relevance))
        return torch.autograd.grad((scores, relevance), trace.source, cotangents, retain_graph=True)[0]

    seeds = torch.nn.functional.one_hot(tokens, scores.shape[1]).transpose(0, 1).to(relevance)  # [T, B, n]
    try:
        if len(seeds) == 1:
            return pull(seeds[0]).unsqueeze(1)
        return torch.func.vmap(pull)(seeds).transpose(0, 1)
    except CheckpointError as error:
        raise _recomputed() from error


def _recomputed() -> UnsupportedModelError:
    return UnsupportedModelError(
        "the model recomputes its blocks during the backward pass (activation checkpointing), outside the "
        "explanation's control: switch checkpointing off"
    )


def _set_gradient_scale(trace: Trace, scores: Tensor, latents: Tensor) -> float:
    """A power of two that brings float16 gradients to about one, where they do not underflow."""
    scale = 1.0
    if latents.dtype == torch.float16 and scores.requires_grad:
        (gradient,) = torch.autograd.grad(scores.sum(), latents, retain_graph=True, allow_unused=True)
        largest = 0.0 if gradient is None else gradient.abs().max().item()
        if 0 < largest < math.inf:
            scale = 2.0 ** -round(math.log2(largest))
    trace.ledger.gradient_scale = scale
    return scale
