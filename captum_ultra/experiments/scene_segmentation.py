"""How well do clustered token maps segment scenes, whose true regions are known?

    python -m captum_ultra.experiments.scene_segmentation --scenes 100 --seed 0 --noise 0.25

Every method is told the number of regions of a scene (objects and background), an ORACLE. Clusters are matched to
regions anew in each scene (``MatchedSegmentation(protocol="image")``). U.mIoU is the mean over scenes of the mean over
a scene's regions. A region is an object, not a class of objects: two disks of one scene are two regions, and regions
of different scenes have nothing to do with each other, so that no figure over a set-wide confusion matrix is given.

Each result is kept in ``--folder`` as soon as it is there: an interrupted run goes on where it stopped, and a run with
more scenes, layers or methods computes what is new. Noisy and clean scenes have files of their own, so that two
runs may share the folder. ULTra_W is trained first where the folder does not hold it.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from captum_ultra.attr.scores import Score
from captum_ultra.data import Scenes
from captum_ultra.experiments.cell_store import CellStore
from captum_ultra.experiments.scene_ultra_w import SETTINGS, learned_score
from captum_ultra.experiments.segmentation_methods import (
    LAYERLESS,
    METHODS,
    SCORES,
    ULTRA,
    Found,
    Sight,
    check_scikit_learn,
    segment_scene,
)
from captum_ultra.experiments.segmentation_tables import (
    Cells,
    accuracy,
    miou,
    parts_table,
    perturbation_table,
    score_table,
    summary_table,
)
from captum_ultra.metrics import InitialTokenIoU, MatchedSegmentation
from captum_ultra.models.vit import VisionTransformer, scenes_vit
from captum_ultra.perturbation.latent_test import LatentPerturbationTest

__all__ = ["FRACTIONS", "Experiment"]

FRACTIONS = (0.25, 0.5, 0.75)
_TOKENS = 10  # perturbed targets an image, the paper's k
_MOST_REGIONS = 6  # five objects and the background


@dataclass(frozen=True, eq=False)
class Experiment:
    """Every method on every scene; results are kept one by one.

    Attributes:
        model: of the scenes.
        scenes: held-out ones, clean or noisy.
        store: where results are kept, and looked up.
        scores: ULTra_W's score by ("ULTra_W", layer).

    Example:
        >>> import tempfile
        >>> from captum_ultra.models.vit import ViTConfig
        >>> model = VisionTransformer(ViTConfig(dim=16, depth=1, heads=2)).eval()
        >>> store = CellStore(Path(tempfile.mkdtemp()) / "cells.jsonl", {})
        >>> experiment = Experiment(model, Scenes(2), store)
        >>> experiment.run(["rollout"], [1])
        >>> len(experiment.segmentations(["rollout"], [1])["rollout", 1])
        2
    """

    model: VisionTransformer
    scenes: Scenes
    store: CellStore
    scores: dict[tuple[str, int], Score] = field(default_factory=dict)

    def run(self, methods: Sequence[str], layers: Sequence[int], *, progress: bool = False) -> None:
        """Compute what the store does not hold yet.

        Args:
            methods: of ``METHODS``.
            layers: numbers of blocks passed, from 1; methods without layers run once.
            progress: show a progress bar over the scenes.
        """
        for index in tqdm(range(len(self.scenes)), desc="scenes", disable=not progress):
            sight = Sight(self.model, self.scenes[index], self.scores)
            for method, layer in _cells(methods, layers):
                if ("segmentation", index, method, layer) not in self.store:
                    found = segment_scene(sight, method, layer)
                    self.store.add(("segmentation", index, method, layer), scored(found, sight))
                if method in ULTRA and ("perturbation", index, method, layer) not in self.store:
                    distances = self._perturbed(sight, method, layer, index)
                    self.store.add(("perturbation", index, method, layer), {"distances": distances})

    def segmentations(self, methods: Sequence[str], layers: Sequence[int]) -> Cells:
        """Scores by method and layer, one a scene."""
        return self._finished("segmentation", _cells(methods, layers))

    def perturbations(self, methods: Sequence[str], layers: Sequence[int]) -> Cells:
        """Distances [3, F] by score and layer, one a scene."""
        return self._finished("perturbation", [cell for cell in _cells(methods, layers) if cell[0] in ULTRA])

    def _finished(self, kind: str, cells: Sequence[tuple[str, int]]) -> Cells:
        numbers = range(len(self.scenes))
        return {(name, layer): [self.store[kind, index, name, layer] for index in numbers] for name, layer in cells}

    def _perturbed(self, sight: Sight, method: str, layer: int, index: int) -> list[list[float]]:
        score = SCORES.get(method) or self.scores[method, layer]
        test = LatentPerturbationTest(self.model, layer, FRACTIONS, score=score, tokens=_TOKENS)
        return test.measure(sight.x[0], index).tolist()


def scored(found: Found, sight: Sight) -> dict[str, Any]:
    """The confusion of regions [6, 7], in whose last column are the pixels of no region's cluster, and the ITIoU.

    Only token maps have an ITIoU; it is None for other methods.
    """
    target = sight.scene.instances[None]
    matched = MatchedSegmentation(protocol="image", num_classes=_MOST_REGIONS)
    matched.update(found.labels[None], target)
    if found.maps is None:
        return {"confusion": matched.counts.tolist(), "itiou": None}
    overlap = InitialTokenIoU(grid=sight.grid)
    overlap.update(found.maps[None], target)
    return {"confusion": matched.counts.tolist(), "itiou": float(overlap.compute())}


def settings_of(model: VisionTransformer, seed: int, noise: float) -> dict[str, Any]:
    """What the numbers depend on: a store of other settings is refused."""
    weights = hashlib.sha256()
    for value in model.state_dict().values():
        weights.update(value.contiguous().numpy().tobytes())
    return {
        "weights": weights.hexdigest()[:16],
        "seed": seed,
        "noise": noise,
        "regions": "instances, their number given (oracle)",
        "ultra_w": SETTINGS.to_dict(),
        "perturbation": {"tokens": _TOKENS, "fractions": FRACTIONS},
    }


def report(experiment: Experiment, methods: Sequence[str], layers: Sequence[int], ours: tuple[str, int]) -> str:
    """All tables, in Markdown."""
    segmented = experiment.segmentations(methods, layers)
    parts = [
        f"{len(experiment.scenes)} scenes of seed {experiment.scenes.seed}, noise {experiment.scenes.noise:g}; mean "
        "and 95 % interval over scenes (bootstrap); the number of regions is given (oracle).",
        "U.mIoU",
        score_table(segmented, miou),
        "U.ACC",
        score_table(segmented, accuracy),
        "ITIoU",
        score_table(segmented, lambda found: found["itiou"]),
    ]
    if ours in segmented:
        parts += ["Every method at its best layer", summary_table(segmented, ours)]
        parts += [f"IoU of background and objects, layer {ours[1]}", parts_table(segmented, ours[1])]
    perturbed = experiment.perturbations(methods, layers)
    if perturbed:
        parts += [
            "Perturbation: distance of latent tokens, half of the other patches masked",
            perturbation_table(perturbed, FRACTIONS, 0.5),
        ]
    return "\n\n".join(parts)


def _cells(methods: Sequence[str], layers: Sequence[int]) -> list[tuple[str, int]]:
    return [(method, layer) for method in methods for layer in ((0,) if method in LAYERLESS else layers)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation, pixels being in 0..1")
    parser.add_argument("--layers", type=int, nargs="+", default=[1, 2, 3, 4, 5, 6], help="blocks passed")
    parser.add_argument("--methods", nargs="+", choices=tuple(METHODS), default=list(METHODS), metavar="METHOD")
    parser.add_argument("--ours", default="ULTra_E:6", help="METHOD:LAYER, from which the others are subtracted")
    parser.add_argument("--folder", type=Path, default=Path("out/scene_segmentation"))
    parser.add_argument("--markdown", type=Path, help="write the tables to this file")
    args = parser.parse_args()
    check_scikit_learn()
    model = scenes_vit()
    scores: dict[tuple[str, int], Score] = {}
    if "ULTra_W" in args.methods:
        for layer in args.layers:
            scores["ULTra_W", layer] = learned_score(model, layer, args.folder, progress=True)
    path = args.folder / f"seed{args.seed}-noise{args.noise:g}.jsonl"
    store = CellStore(path, settings_of(model, args.seed, args.noise))
    scenes = Scenes(args.scenes, args.seed, model.image_size, args.noise)
    experiment = Experiment(model, scenes, store, scores)
    experiment.run(args.methods, args.layers, progress=True)
    method, _, layer = args.ours.partition(":")
    tables = report(experiment, args.methods, args.layers, (method, int(layer)))
    print(tables)
    if args.markdown:
        args.markdown.write_text(tables + "\n")


if __name__ == "__main__":
    torch.set_num_threads(1)  # the model is so small that a second thread only waits; run clean and noisy side by side
    main()
