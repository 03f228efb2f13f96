"""Copies of a classifier whose weights mean less and less: from the head down, stage by stage.

Adebayo et al., Sanity Checks for Saliency Maps (NeurIPS 2018), section 3.1: cascading randomisation.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import cast

import torch
from torch import Tensor, nn

from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig
from captum_ultra.perturbation.seeds import seeded_generator

__all__ = ["SCHEMES", "cascade", "stages"]


def stages(model: ViTClassifier) -> dict[str, tuple[str, ...]]:
    """Names of the parameters that each stage randomises beside those of the stages before it.

    The last norm goes with the last block; the last stage holds what makes tokens of an image, so that after it
    no trained weight is left.

    Example:
        >>> [(stage, names[0]) for stage, names in stages(ViTClassifier(ViTClassifierConfig(depth=1))).items()]
        [('head', 'head.weight'), ('block 1', 'norm.weight'), ('embedding', 'cls_token')]
    """
    depth = len(model.blocks)
    prefixes = {"head": ("head.",)}
    for block in reversed(range(depth)):
        prefixes[f"block {block + 1}"] = (*(("norm.",) if block == depth - 1 else ()), f"blocks.{block}.")
    names = dict(model.named_parameters())
    found = {
        stage: tuple(name for prefix in starts for name in names if name.startswith(prefix))
        for stage, starts in prefixes.items()
    }
    taken = {name for each in found.values() for name in each}
    return {**found, "embedding": tuple(name for name in names if name not in taken)}


def cascade(model: ViTClassifier, scheme: str, *seeds: int) -> Iterator[tuple[str, ViTClassifier]]:
    """A copy of the model after every stage, each with its stage's name; the model itself is not touched.

    Args:
        model: trained.
        scheme: of ``SCHEMES``: "shuffled" changes the places of the values within every tensor, so that their
            distribution, and with it the size of activations, stays as it was trained; "initial" puts in the values
            that a new model of the same configuration begins with.
        seeds: of the draw, not negative.

    Raises:
        ValueError: for an unknown scheme.

    Example:
        >>> model = ViTClassifier(ViTClassifierConfig(dim=16, depth=2, heads=2))
        >>> copies = dict(cascade(model, "shuffled", 0))
        >>> [torch.equal(copied.cls_token, model.cls_token) for copied in copies.values()]
        [True, True, True, False]
    """
    if scheme not in SCHEMES:
        raise ValueError(f"scheme {scheme!r} is unknown; possible: {', '.join(map(repr, SCHEMES))}")
    generator = seeded_generator(*seeds)
    drawn = SCHEMES[scheme](model, generator)
    current = copy.deepcopy(model)
    for stage, names in stages(model).items():
        with torch.no_grad():
            for name in names:
                current.get_parameter(name).copy_(drawn[name])
        yield stage, copy.deepcopy(current)


def _shuffled(model: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    return {
        name: values.detach().flatten()[torch.randperm(values.numel(), generator=generator)].view_as(values)
        for name, values in model.named_parameters()
    }


def _initial(model: ViTClassifier, generator: torch.Generator) -> dict[str, Tensor]:
    with torch.random.fork_rng(devices=[]):  # layers draw from torch's own generator
        torch.manual_seed(int(torch.randint(2**62, (1,), generator=generator)))
        fresh = type(model)(cast(ViTClassifierConfig, model.config))
    return {name: values.detach() for name, values in fresh.named_parameters()}


SCHEMES: dict[str, Callable[[ViTClassifier, torch.Generator], dict[str, Tensor]]] = {
    "shuffled": _shuffled,
    "initial": _initial,
}
