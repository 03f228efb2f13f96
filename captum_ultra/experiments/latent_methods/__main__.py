"""All methods for latent tokens, on texts and images whose truth is known: which one, how read, at which layer?

    python -m captum_ultra.experiments.latent_methods texts --samples 100 --seed 0 --choose 40 --choose-seed 1
    python -m captum_ultra.experiments.latent_methods scenes --samples 60 --seed 0 --choose 20 --choose-seed 1

Texts: `facts-llama` on held-out documents. Average precision of the planted evidence, of claims ("copied", "derived")
and of whole summaries, and the loss of the summary's log-likelihood when the most relevant tokens of the context go
("removal"). Scenes: `scenes-vit` on held-out scenes. ROC-AUC of the object under the token ("region"), and the distance
of the latent when the most relevant patches go, minus that when the least relevant ones go ("removal").

Layer, position and variant of every method are chosen on the samples of another seed, for every measure by itself.
Numbers are kept as JSON lines, one sample a line; what is there already is not computed again, and the tables are made
of what is kept.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from captum_ultra.experiments.latent_methods.cells import Setting
from captum_ultra.experiments.latent_methods.study import FIXED, SCENES, TEXTS, Kind, chosen_settings, measured
from captum_ultra.experiments.latent_methods.tables import (
    choice_table,
    difference_table,
    family_table,
    fixed_difference_table,
    fixed_table,
    layer_table,
    variant_table,
)
from captum_ultra.experiments.latent_methods.variants import MIXED, Variant
from captum_ultra.models.loader import load_model

__all__ = ["run"]

_MODELS = {"texts": "facts-llama", "scenes": "scenes-vit"}


def run(
    kind: Kind, samples: int, seed: int, choose: int, choose_seed: int, folder: Path, *, progress: bool = False
) -> str:
    """Compute what the folder does not hold yet.

    Args:
        kind: texts or scenes.
        samples: of the report.
        seed: of the report.
        choose: samples on which settings are chosen.
        choose_seed: of these; another one.
        folder: of numbers and tables; made when missing.
        progress: show progress bars.

    Returns:
        All tables in Markdown.

    Raises:
        ValueError: for two equal seeds, or if the folder holds numbers of other weights or variants.
    """
    if seed == choose_seed:
        raise ValueError(f"seed {seed} is both that of the choice and that of the report; give two")
    loaded = load_model(_MODELS[kind.name])
    model: Any = loaded.model
    layers = model.config.num_hidden_layers if kind is TEXTS else model.config.depth
    measure = partial(measured, kind, model, loaded.tokenizer, folder=folder, progress=progress)
    # Removal takes long on scenes, so that only what the tables show is measured there.
    tried = measure(choose, choose_seed, removed=_everywhere if kind is TEXTS else _at(layers))
    chosen = chosen_settings(kind, tried, layers)
    variants = kind.variants if kind is TEXTS else _shown(chosen)
    cells = measure(samples, seed, variants=variants, removed=_everywhere if kind is TEXTS else _at(layers, *kind.main))
    head = f"{samples} {kind.name} of seed {seed}; settings chosen on {choose} of seed {choose_seed}"
    parts = [head, family_table(kind, cells, chosen, layers), "Chosen settings", choice_table(kind, chosen)]
    parts += ["Differences to ULTra_E within samples", difference_table(kind, cells, chosen)]
    for position in ("before", "own") if kind is TEXTS else ("",):
        title = f"Everybody at the last layer{', ' * bool(position)}{position}"
        parts += [title, fixed_table(kind, cells, layers, position)]
        parts += ["More than residual, within samples", fixed_difference_table(kind, cells, layers, position)]
    for measure in (*kind.measures, *(("relative",) if kind is SCENES else ())):
        parts += [f"Every layer: {measure}", layer_table(kind, cells, measure, layers)]
    # Of scenes not every variant is measured again: this table stands on the samples of the choice.
    every, of = (cells, seed) if kind is TEXTS else (tried, choose_seed)
    parts += [f"Every variant at its best layer, seed {of}", variant_table(kind, every, tried, layers)]
    text = "\n\n".join(parts)
    (folder / f"{kind.name}.md").write_text(text + "\n")
    return text


def _everywhere(setting: Setting) -> bool:
    return True


def _at(last: int, *variants: str) -> Callable[[Setting], bool]:
    """At the last layer, and at every one where these variants (or nearness beside them) tell what goes."""
    everywhere = {*variants, "nearness"} if variants else set()
    return lambda setting: setting.layer == last or setting.variant in everywhere


def _shown(chosen: Mapping[tuple[str, str], Setting]) -> tuple[Variant, ...]:
    """The variants of scenes that some table shows."""
    parts = [part for pair in MIXED.values() for part in pair]
    names = {*(each.variant for each in chosen.values()), *FIXED, *SCENES.main, *parts}
    return tuple(each for each in SCENES.variants if each.name in names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=tuple(_MODELS))
    parser.add_argument("--samples", type=int, default=60, help="of the report")
    parser.add_argument("--seed", type=int, default=0, help="of the report")
    parser.add_argument("--choose", type=int, default=20, help="samples on which settings are chosen")
    parser.add_argument("--choose-seed", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=Path("out/latent_methods"), help="folder")
    args = parser.parse_args()
    started = time.process_time()
    kind = TEXTS if args.kind == "texts" else SCENES
    print(run(kind, args.samples, args.seed, args.choose, args.choose_seed, args.output, progress=True))
    print(f"\n{(time.process_time() - started) / 60:.1f} minutes of processor time")


if __name__ == "__main__":
    torch.set_num_threads(1)  # the models are so small that a second thread only waits
    main()
