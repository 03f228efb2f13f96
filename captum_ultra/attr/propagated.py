"""Relevance propagated, target by target, down a run whose gradients are relevances."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import one_hot
from tqdm import tqdm

from captum_ultra.attr.asked import Asked
from captum_ultra.attr.questions import ClassQuestion
from captum_ultra.attr.runs import Propagated
from captum_ultra.relevance.lrp import MapRelevance
from captum_ultra.relevance.pullback import recorded

__all__ = ["propagated"]


def propagated(asked: Asked, kind: Propagated, first: int = 0) -> tuple[Tensor, list[dict[int, MapRelevance]]]:
    """Relevance [B, T, ...] of what enters a block (or of the pixels), and block -> that of its attention map.

    Args:
        asked: what is explained. A class starts with relevance 1, a latent token with what each of its channels adds
            to its score.
        kind: of the run.
        first: the block.

    Raises:
        ValueError: if the relevance is not finite.
        UnsupportedModelError: if the model changes a value in place that a rule needs.
    """
    run, explained = asked.run(kind), asked.explained(kind)
    leaf = run.graph.leaf if kind.pixels else run.trace.latents[first]
    of_class = isinstance(asked.question, ClassQuestion)
    output = run.logits if of_class else run.trace.latents[asked.layer]
    assert isinstance(output, Tensor)
    found, maps = [], []
    targets = range(explained.chosen.shape[1])
    for target in tqdm(targets, f"layer {asked.layer}", unit="token", disable=not explained.progress):
        seed = one_hot(explained.chosen[:, target], explained.scores.shape[1]).to(explained.scores)
        if not of_class:
            (gradient,) = torch.autograd.grad(explained.scores, output, seed, retain_graph=True)
            seed = gradient * output.detach()
        run.graph.maps.clear()
        found.append(_back(output, seed.to(output), leaf))
        maps.append(dict(run.graph.maps))
    return torch.stack(found, 1), maps


def _back(output: Tensor, seed: Tensor, leaf: Tensor) -> Tensor:
    with recorded(output.device):
        (relevance,) = torch.autograd.grad(output, leaf, seed, retain_graph=True)
    if not relevance.isfinite().all():
        raise ValueError(
            "the relevance contains NaN or infinity: check the input, the weights, and the precision (float32)"
        )
    return relevance
