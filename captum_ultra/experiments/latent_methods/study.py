"""The study: everything tried on some samples of one seed, settings chosen there, and reported on another seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from tqdm import tqdm

from captum_ultra.attr.methods.conservative_lrp import READINGS
from captum_ultra.data import Facts, Scenes
from captum_ultra.experiments.cell_store import CellStore
from captum_ultra.experiments.evaluate.folder import weights_digest
from captum_ultra.experiments.latent_methods.cells import Cells, Setting
from captum_ultra.experiments.latent_methods.scenes import SCENE_MEASURES, measure_scene
from captum_ultra.experiments.latent_methods.texts import TEXT_MEASURES, measure_document
from captum_ultra.experiments.latent_methods.variants import MIXED, Variant, scene_variants, text_variants

__all__ = ["FIXED", "SCENES", "TEXTS", "Kind", "chosen_settings", "families", "measured"]

_CONSERVATIVE, _RESIDUAL = "conservative, gates=constant", "residual, gamma=3, gates=constant"
FIXED = (
    "conservative, gates=gradient, signed",
    "conservative, gates=gradient, absolute",
    *(f"{rule}, {reading}" for rule in (_CONSERVATIVE, _RESIDUAL) for reading in READINGS),
)
"""Variants of the linear methods that are always shown."""
_RANKED = ("raw attention", "rollout", "ULTra_S", "ULTra_E")

Measure = Callable[..., dict[str, float]]


@dataclass(frozen=True)
class Kind:
    """Texts, or scenes.

    Attributes:
        name: "texts" or "scenes".
        measures: what the tables show.
        variants: everything that is tried.
        main: variants that are shown at every layer.
        controls: what knows nothing of the model, or everything of the truth.
        digits: of every measure.
    """

    name: str
    measures: tuple[str, ...]
    variants: tuple[Variant, ...]
    main: tuple[str, ...]
    controls: tuple[str, ...]
    digits: Mapping[str, int]

    def samples(self, count: int, seed: int) -> Any:
        """Held-out ones."""
        return Facts(count, seed) if self.name == "texts" else Scenes(count, seed)


TEXTS = Kind(
    "texts", TEXT_MEASURES, tuple(text_variants()),
    (
        *_RANKED, f"{_CONSERVATIVE}, absolute", f"{_CONSERVATIVE}, norm",
        *(f"{_RESIDUAL}, {reading}" for reading in ("signed", "absolute", "norm")), *MIXED,
    ),
    ("chance", "nearness", "the evidence"), {"copied": 3, "derived": 3, "summary": 3, "removal": 1},
)  # fmt: skip
SCENES = Kind(
    "scenes", SCENE_MEASURES, tuple(scene_variants()),
    (*_RANKED, f"{_CONSERVATIVE}, norm", f"{_RESIDUAL}, signed", f"{_RESIDUAL}, norm"),
    ("chance", "nearness", "colour"), {"region": 3, "removal": 2, "relative": 3},
)  # fmt: skip


def measured(
    kind: Kind, model: nn.Module, tokenizer: Any, count: int, seed: int, folder: Path, *,
    variants: Sequence[Variant] | None = None, removed: Callable[[Setting], bool] = lambda setting: True,
    progress: bool = False,
) -> Cells:  # fmt: skip
    """The numbers of some samples; what the folder does not hold yet is computed, and kept sample by sample.

    Args:
        kind: of samples.
        model: that is explained.
        tokenizer: of a language model; None for scenes.
        count: of samples.
        seed: of them, and of all that is random.
        folder: one JSON-lines file for each kind and seed.
        variants: that explain; all that are tried, when None.
        removed: for which settings something is removed; a function of layers, variants and positions alone.
        progress: show a progress bar.

    Raises:
        ValueError: if the file holds numbers of other weights or variants.
    """
    chosen = kind.variants if variants is None else tuple(variants)
    settings = {"model": weights_digest(model), "seed": seed, "variants": [each.name for each in chosen]}
    store = CellStore(folder / f"{kind.name}_seed{seed}.jsonl", settings)
    sees: Any = model
    measure: Measure = partial(measure_document, sees, tokenizer) if kind is TEXTS else partial(measure_scene, sees)
    samples = kind.samples(count, seed)
    for number in tqdm(range(count), desc=f"{kind.name}, seed {seed}", disable=not progress):
        if (kind.name, number) not in store:
            store.add((kind.name, number), measure(samples[number], chosen, seed, number, removed))
    return Cells([store[kind.name, number] for number in range(count)])


def families(kind: Kind) -> dict[str, list[str]]:
    """Family -> names of its variants; those that explain the sum, and mixtures, are families of their own.

    Example:
        >>> [name for name in families(SCENES) if "TokenTM" in name], families(TEXTS)["rollout"]
        (['TokenTM, S', 'TokenTM'], ['rollout'])
    """
    found: dict[str, list[str]] = {}
    for each in kind.variants:
        apart = each.score == "sum" and not each.family.startswith("ULTra")
        found.setdefault(f"{each.family}, S" if apart else each.family, []).append(each.name)
    return {**found, **{name: [name] for name in MIXED}}


def chosen_settings(kind: Kind, cells: Cells, layers: int) -> dict[tuple[str, str], Setting]:
    """(family, measure) -> the best setting on these samples; of removal on scenes at the last layer.

    A latent of another layer is another question there, with distances of its own.

    Args:
        kind: of samples.
        cells: of the seed on which is chosen.
        layers: L.
    """
    found = {}
    for family, variants in families(kind).items():
        for measure in kind.measures:
            last = kind is SCENES and measure == "removal"
            found[family, measure] = cells.best(measure, variants, [layers] if last else None)
    return found
