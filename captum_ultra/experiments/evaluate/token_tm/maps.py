"""One map an image from every method: enlarged alike, scaled alike."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra.attr.methods import METHODS, method_class
from captum_ultra.attr.methods.token_tm import TokenTM
from captum_ultra.attr.presentation import min_max
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.perturbation.seeds import seeded_generator

__all__ = ["LABELS", "RANDOM", "MapMaker", "ablation_makers", "method_makers", "random_map", "try_makers"]

MapMaker = Callable[[Tensor, int], Tensor]
"""(input [1, 3, H, W], class) -> map [1, 1, H, W] in 0..1."""

RANDOM = "random map"

LABELS = {
    "raw_attention": "raw attention",
    "rollout": "rollout",
    "gae": "GAE",
    "grad_cam": "Grad-CAM",
    "attcat": "ATTCAT",
    "legrad": "LeGrad",
    "token_tm": "TokenTM",
    "conservative_lrp": "Conservative LRP",
    "residual_lrp": "Residual LRP",
    "lrp": "LRP",
    "partial_lrp": "partial LRP",
    "transformer_attribution": "Transformer Attribution",
}
"""What the tables call the methods."""


def method_makers(model: nn.Module, names: Sequence[str]) -> dict[str, MapMaker]:
    """A map maker a method, by the short names of :data:`captum_ultra.attr.methods.METHODS`."""
    return {name: partial(_map_of, method_class(name)(model).attribute) for name in names}


def ablation_makers(model: nn.Module, depth: int) -> dict[str, MapMaker]:
    """TokenTM without its parts, and of the first quarters of the blocks (tables 6 and 7).

    Args:
        model: that is explained.
        depth: the number of its blocks: 12 give the paper's 3, 6 and 9.
    """
    parts: dict[str, Mapping[str, bool | int]] = {
        "baseline": {"aggregation": False, "length": False, "necc": False},
        "+ aggregation": {"length": False, "necc": False},
        "+ L": {"necc": False},
        "+ NECC": {},
    }
    firsts = sorted({max(1, round(depth * quarter / 4)) for quarter in (1, 2, 3)} - {depth})
    names = {first: "first block" if first == 1 else f"first {first} blocks" for first in firsts}
    rows = {**parts, **{name: {"first_blocks": first} for first, name in names.items()}}
    method = TokenTM(model)
    return {name: partial(_map_of, partial(method.attribute, **row)) for name, row in rows.items()}


def try_makers(makers: Mapping[str, MapMaker], x: Tensor, target: int) -> None:
    """Make every map once, so that a model which a method cannot explain is found before a long run.

    Raises:
        UnsupportedModelError: names the method.
    """
    for name, make in makers.items():
        with _naming(name):
            make(x, target)


def random_map(x: Tensor, grid: tuple[int, int], seed: int, number: int) -> Tensor:
    """A map [1, 1, H, W] that knows nothing: a random value for every patch, enlarged as the others are.

    Args:
        x: the input [1, 3, H, W].
        grid: rows and columns of patches.
        seed: of the evaluation.
        number: of the image.
    """
    values = torch.rand(1, 1, *grid, generator=seeded_generator(seed, number))
    return min_max(F.interpolate(values, size=x.shape[-2:], mode="bilinear").to(x.device))


@contextmanager
def _naming(method: str) -> Iterator[None]:
    """Say whose error it is."""
    try:
        yield
    except UnsupportedModelError as error:
        hint = "; other methods can be asked for by name" if method in METHODS else ""
        raise UnsupportedModelError(f"{method}: {error}{hint}") from error


def _map_of(attribute: Callable[..., Tensor], x: Tensor, target: int) -> Tensor:
    found = attribute(x, target=target, output="input", interpolation="bilinear", rescale=True)
    if not bool(found.isfinite().all()):
        raise ValueError("a map is not finite: check the model's weights and dtype")
    return found
