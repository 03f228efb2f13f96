"""Rows of latent tokens by many methods, at every layer, from as few runs of the model as there are kinds of run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from captum_ultra.adapters import ModelViews
from captum_ultra.attr.asked import Asked, runs_for
from captum_ultra.attr.methods import method_class
from captum_ultra.attr.methods.conservative_lrp import READINGS, read_rows
from captum_ultra.attr.questions import LatentQuestion
from captum_ultra.attr.scores import as_score
from captum_ultra.attr.targets import parse_targets
from captum_ultra.experiments.latent_methods.variants import MIXED, Variant

__all__ = ["latent_rows", "mixed", "ranks"]


def latent_rows(
    model: nn.Module, inputs: Tensor, tokens: Sequence[int], variants: Sequence[Variant]
) -> Iterator[tuple[int, str, Tensor]]:
    """Relevance rows of the latents of some tokens, after every block.

    A run of the model serves all layers, scores and methods of its kind, and a pull-back all readings that it allows.

    Args:
        model: that is explained.
        inputs: one sample of it, [1, ...].
        tokens: T indices, prefix tokens counted.
        variants: to explain them by.

    Yields:
        (layer, the variant's name, rows [T, n] over all tokens, the target's own entry as it comes).

    Example:
        >>> from captum_ultra.models.vit import ViTConfig, VisionTransformer
        >>> model = VisionTransformer(ViTConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
        >>> found = latent_rows(model, torch.rand(1, 3, 16, 16), [3, 4], [Variant("rollout", "rollout")])
        >>> [(layer, name, rows.shape) for layer, name, rows in found]
        [(1, 'rollout', torch.Size([2, 16])), (2, 'rollout', torch.Size([2, 16]))]
    """
    view = ModelViews(model, None)(inputs, None)
    layers = range(1, len(view.blocks) + 1)
    pulls: dict[tuple[str, str, tuple[tuple[str, object], ...]], list[Variant]] = {}
    for each in variants:
        own = (*each.choices, ("reading", each.reading)) if each.reading == "norm" else each.choices
        pulls.setdefault((each.method, each.score or "sum", own), []).append(each)
    methods = {pull: method_class(pull[0])(model) for pull in pulls}
    choices = {pull: methods[pull].checked(dict(pull[2])) for pull in pulls}
    targets = parse_targets(list(tokens), None)
    questions = {score: LatentQuestion(targets, as_score(score)) for score in ("sum", "energy")}
    runs = runs_for(
        {methods[pull]: choices[pull] for pull in pulls}, view, inputs, None, list(questions.values()), layers
    )
    for layer in layers:
        for pull, read in pulls.items():
            rows = methods[pull].rows_of(Asked(runs, questions[pull[1]], layer, choices[pull]))[0]
            yield from ((layer, each.name, _read(rows, each.reading)) for each in read)


def mixed(scores: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The scores of some tokens with the mixtures of ``MIXED`` whose parts are there: the mean of both shares.

    Args:
        scores: variant -> [..., S], not negative where it is part of a mixture.

    Example:
        >>> first, second = MIXED["ULTra_E + residual"]
        >>> mixed({first: torch.tensor([1.0, 3.0]), second: torch.tensor([1.0, 1.0])})["ULTra_E + residual"]
        tensor([0.3750, 0.6250])
    """
    found = dict(scores)
    for name, parts in MIXED.items():
        if all(part in scores for part in parts):
            shares = [scores[part] / scores[part].sum(-1, keepdim=True).clamp(min=1e-30) for part in parts]
            found[name] = (shares[0] + shares[1]) / 2
    return found


def ranks(scores: Tensor, order: Tensor) -> Tensor:
    """Scores [..., S] as places 0..S-1, the highest score the highest place, equal ones as a random order has them.

    Args:
        scores: of S tokens.
        order: a permutation [S].

    Raises:
        ValueError: for a score that is not a number.

    Example:
        >>> ranks(torch.tensor([0.5, 0.5, 0.1]), torch.tensor([1, 0, 2]))
        tensor([2., 1., 0.])
    """
    if bool(scores.isnan().any()):
        raise ValueError("a score is not a number; no ranking follows from it")
    sorted_places = order[scores[..., order].argsort(dim=-1, stable=True)]
    places = torch.arange(scores.shape[-1], dtype=torch.float32).expand(scores.shape)
    return torch.empty(scores.shape).scatter(-1, sorted_places, places)


def _read(rows: Tensor, reading: str) -> Tensor:
    if reading not in READINGS:
        raise ValueError(f"reading={reading!r} is unknown")
    return read_rows(rows, reading)
