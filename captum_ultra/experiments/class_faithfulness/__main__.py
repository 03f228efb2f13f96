"""Which explanation of a class is faithful, on scenes where the truth is known?

    python -m captum_ultra.experiments.class_faithfulness --scenes 300 --seed 0 -o out/class_faithfulness

Explains the predicted class of held-out scenes, and the true one where it is another, by every method and by controls
that know nothing of the model; prints Markdown tables and writes the numbers (JSON) and figures beside them. Then
randomises the weights from the head down, on the first ``--sanity-scenes`` scenes, and holds the maps against those of
the trained model. Each result is kept as soon as it is there: an interrupted run goes on where it stopped, and a run
with more scenes or methods computes what is new.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from captum_ultra.attr.methods import METHODS, find_methods
from captum_ultra.data import ObjectScenes
from captum_ultra.experiments.cell_store import CellStore
from captum_ultra.experiments.class_faithfulness.figures import maps_figure, removal_figure, sanity_figure
from captum_ultra.experiments.class_faithfulness.maps import ABSOLUTE, CONTROLS, LABELS
from captum_ultra.experiments.class_faithfulness.randomised import SCHEMES
from captum_ultra.experiments.class_faithfulness.sanity import Sanity
from captum_ultra.experiments.class_faithfulness.sanity_tables import plain_sanity, sanity_table, stage_table
from captum_ultra.experiments.class_faithfulness.scores import PROBABILITY, REMOVAL, WHERE
from captum_ultra.experiments.class_faithfulness.study import Faithfulness, settings_of
from captum_ultra.experiments.class_faithfulness.tables import (
    Numbers,
    agreement_table,
    difference_table,
    measure,
    plain,
    score_table,
)
from captum_ultra.insights.figures import save_figure
from captum_ultra.models.vit_classifier import ViTClassifier, load_vit_classifier, scenes_classifier

__all__ = ["run"]

_CHECKED_CONTROLS = ("edges",)  # a control ignores the weights, so that one is enough to see what the check says then
_COMPARED = ("edges", "gae")
_SHOWN, _DPI = 4, 100
_AGREEMENT = (*WHERE[1:3], *REMOVAL[:2], PROBABILITY[0], PROBABILITY[3])


def run(
    model: ViTClassifier, scenes: int, sanity_scenes: int, seed: int, methods: Sequence[str], folder: Path, *,
    schemes: Sequence[str] = tuple(SCHEMES), draws: int = 2, progress: bool = False,
) -> str:  # fmt: skip
    """Compute what the folder does not hold yet; write numbers and figures into it.

    Args:
        model: that is explained.
        scenes: held-out ones of the study.
        sanity_scenes: of the randomisation check.
        seed: of scenes, controls and randomised weights.
        methods: short names.
        folder: of results, numbers and figures; made when missing.
        schemes: how weights are randomised.
        draws: of randomised weights, for each scheme.
        progress: show progress bars.

    Returns:
        All tables in Markdown.

    Raises:
        ValueError: if the folder holds results of other weights, another seed, or scenes that looked different.
    """
    names = (*methods, *(name for name, method in ABSOLUTE.items() if method in methods), *CONTROLS)
    settings = settings_of(model, seed)
    study = Faithfulness(
        model, ObjectScenes(scenes, seed, model.image_size), CellStore(folder / "scenes.jsonl", settings)
    )
    study.run(names, progress=progress)
    checked = (*methods, *_CHECKED_CONTROLS)
    store = CellStore(folder / "randomised.jsonl", settings)
    sanity = Sanity(model, ObjectScenes(sanity_scenes, seed, model.image_size), store, schemes, draws)
    sanity.run(checked, progress=progress)
    numbers = measure(study, names)
    text = "\n\n".join([*_study_tables(study, numbers, methods), *_sanity_tables(sanity, checked)])
    (folder / "tables.md").write_text(text + "\n")
    values = {"settings": settings, "scenes": plain(numbers), "randomised": plain_sanity(sanity, checked)}
    (folder / "numbers.json").write_text(json.dumps(values, indent=1, allow_nan=False))
    shown = ObjectScenes(min(scenes, _SHOWN), seed, model.image_size)
    figures = {
        "removal": removal_figure(study, (*methods, *CONTROLS)),
        "randomised": sanity_figure(sanity, checked),
        "maps": maps_figure(model, shown, (*methods, *CONTROLS)),
    }
    for name, figure in figures.items():
        save_figure(figure, folder / f"{name}.png", dpi=_DPI)
    return text


def _study_tables(study: Faithfulness, numbers: Numbers, methods: Sequence[str]) -> list[str]:
    clean = study.removal("mask")
    assert clean.labels is not None
    right = int(clean.clean_predicted.eq(clean.labels).sum())
    always = right == len(study.scenes)
    constant = {LABELS[name]: study.constant(name) for name in methods}
    silent = ", ".join(f"{label} in {count}" for label, count in constant.items() if count)
    return [
        f"{len(study.scenes)} held-out scenes of seed {study.scenes.seed}; the classifier is right on {right}"
        + (", so that the predicted class is the true one." if always else ".")
        + " Means with 95 % intervals over scenes (bootstrap)."
        + (f" Maps that are constant: {silent} scenes." if silent else ""),
        *("Where the maps lie", score_table(numbers, WHERE)),
        *("Pixels removed: area under the accuracy", score_table(numbers, REMOVAL[: 3 if always else None])),
        *("Pixels removed and inserted: probability of the predicted class", score_table(numbers, PROBABILITY)),
        *[
            part
            for other in _COMPARED
            if other in numbers
            for part in (
                f"What the methods have more than {LABELS[other]}, within scenes",
                difference_table(study, [name for name in methods if name != other], other),
            )
        ],
        *("Do the scores agree about the methods? Rank correlation", agreement_table(numbers, _AGREEMENT)),
    ]


def _sanity_tables(sanity: Sanity, names: Sequence[str]) -> list[str]:
    parts = []
    for scheme in sanity.schemes:
        parts += [
            f"Weights randomised ({scheme}), {len(sanity.scenes)} scenes, {sanity.draws} draws",
            sanity_table(sanity, names, scheme),
            "Rank correlation of absolute values, stage by stage",
            stage_table(sanity, names, scheme),
        ]
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=300)
    parser.add_argument("--sanity-scenes", type=int, default=50, help="of the randomisation check")
    parser.add_argument("--schemes", nargs="+", choices=tuple(SCHEMES), default=list(SCHEMES), metavar="SCHEME")
    parser.add_argument("--draws", type=int, default=2, help="of randomised weights")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--methods", type=find_methods, default=tuple(METHODS), help="names with commas between them")
    parser.add_argument("--weights", type=Path, help="a classifier trained on the scenes; the shipped one by default")
    parser.add_argument("-o", "--output", type=Path, default=Path("out/class_faithfulness"), help="folder")
    args = parser.parse_args()
    model = load_vit_classifier(args.weights) if args.weights else scenes_classifier()
    text = run(
        model, args.scenes, args.sanity_scenes, args.seed, args.methods, args.output, schemes=args.schemes,
        draws=args.draws, progress=True,
    )  # fmt: skip
    print(text)


if __name__ == "__main__":
    torch.set_num_threads(1)  # the model is so small that a second thread only waits
    main()
