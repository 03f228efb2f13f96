"""What becomes of an explanation when the weights that it explains are randomised?

A method whose map stays as it is explains the image, or nothing, but not the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from captum_ultra.data import ObjectScene, ObjectScenes
from captum_ultra.experiments.cell_store import CellStore
from captum_ultra.experiments.class_faithfulness.maps import map_makers, on_patches
from captum_ultra.experiments.class_faithfulness.randomised import cascade, stages
from captum_ultra.experiments.class_faithfulness.similarity import rank_correlation, structural_similarity
from captum_ultra.models.vit_classifier import ViTClassifier

__all__ = ["MEASURES", "Sanity", "Verdict", "verdict"]

MEASURES: dict[str, Callable[[Tensor, Tensor], float]] = {
    "absolute": lambda one, other: rank_correlation(one.abs(), other.abs()),
    "signed": rank_correlation,
    "ssim": structural_similarity,
}
"""Name -> similarity of two maps on the patch grid; the first is the rank correlation of absolute values."""

FAILS_FROM = 0.5
_MARGIN = 0.1  # above what maps of different scenes have in common
_BLIND_FROM = 0.99


@dataclass(frozen=True, eq=False)
class Sanity:
    """Maps of the trained model held against those of its randomised copies, scene by scene.

    Attributes:
        model: trained.
        scenes: held-out ones.
        store: where results are kept, and looked up.
        schemes: of :data:`captum_ultra.experiments.class_faithfulness.randomised.SCHEMES`.
        draws: how often each scheme is drawn.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_ultra.models.vit_classifier import ViTClassifierConfig
        >>> model = ViTClassifier(ViTClassifierConfig(dim=16, depth=1, heads=2)).eval()
        >>> sanity = Sanity(model, ObjectScenes(1), CellStore(Path(tempfile.mkdtemp()) / "cells.jsonl", {}), draws=1)
        >>> sanity.run(["rollout", "edges"])
        >>> sanity.randomised("edges", "shuffled", "signed").tolist()
        [[[1.0, 1.0, 1.0]]]
    """

    model: ViTClassifier
    scenes: ObjectScenes
    store: CellStore
    schemes: Sequence[str] = ("shuffled", "initial")
    draws: int = 2

    def run(self, names: Sequence[str], *, progress: bool = False) -> None:
        """Compute what the store does not hold yet.

        Args:
            names: of methods and controls.
            progress: show a progress bar over the scenes.
        """
        copies = {
            (scheme, draw): [copied for _, copied in cascade(self.model, scheme, self.scenes.seed, draw)]
            for scheme in self.schemes
            for draw in range(self.draws)
        }
        trained = map_makers(self.model, names, self.scenes.seed)
        makers = {key: [map_makers(each, names, self.scenes.seed) for each in every] for key, every in copies.items()}
        others = ObjectScenes(len(self.scenes), self.scenes.seed + 1, self.scenes.size, split=self.scenes.split)
        for index in tqdm(range(len(self.scenes)), desc="randomised", disable=not progress):
            todo = [name for name in names if not self._finished(index, name)]
            if not todo:
                continue
            scene, other = self.scenes[index], others[index]
            (x, target), (other_x, other_target) = self._seen(scene), self._seen(other)

            def on_grid(make: Callable[..., Tensor], of: ObjectScene, *rest: Any) -> Tensor:
                return on_patches(make(of, *rest), self.model.patch_size)

            for name in todo:
                whole = on_grid(trained[name], scene, x, target, index)
                # Numbered apart, or the random control would be the same map twice.
                unlike = on_grid(trained[name], other, other_x, other_target, len(self.scenes) + index)
                self._keep(("different", index, name), whole, [unlike])
                for (scheme, draw), every in makers.items():
                    again = [on_grid(each[name], scene, x, target, index) for each in every]
                    self._keep(("randomised", scheme, draw, index, name), whole, again)

    def randomised(self, name: str, scheme: str, measure: str) -> Tensor:
        """The similarity to the trained model's map: float64 [scenes, draws, stages]."""
        numbers, draws = range(len(self.scenes)), range(self.draws)
        found = [[self.store["randomised", scheme, draw, index, name][measure] for draw in draws] for index in numbers]
        return torch.tensor(found, dtype=torch.float64)

    def different(self, name: str, measure: str) -> Tensor:
        """The similarity to the map of another scene, both of the trained model: float64 [scenes]."""
        found = [self.store["different", index, name][measure][0] for index in range(len(self.scenes))]
        return torch.tensor(found, dtype=torch.float64)

    @property
    def stages(self) -> tuple[str, ...]:
        """Their names, from the head down."""
        return tuple(stages(self.model))

    def _seen(self, scene: ObjectScene) -> tuple[Tensor, int]:
        """The input [1, 3, H, W], and the class that the trained model predicts; it is explained in all copies."""
        x = self.model.preprocess(scene.image)[None]
        with torch.no_grad():
            return x, int(self.model(x).argmax())

    def _finished(self, index: int, name: str) -> bool:
        keys = [("randomised", scheme, draw, index, name) for scheme in self.schemes for draw in range(self.draws)]
        return all(key in self.store for key in [*keys, ("different", index, name)])

    def _keep(self, key: tuple[str | int, ...], whole: Tensor, again: Sequence[Tensor]) -> None:
        if key not in self.store:
            measured = {name: [measure(whole, each) for each in again] for name, measure in MEASURES.items()}
            self.store.add(key, measured)


@dataclass(frozen=True)
class Verdict:
    """What the check says about a method.

    Attributes:
        text: "fails", "in part" or "passes".
        blind: whether the map stays the same when the head alone is randomised: then it does not depend on the class.
    """

    text: str
    blind: bool


def verdict(randomised: Sequence[Tensor], different: Sequence[Tensor]) -> Verdict:
    """The rule, which was written down before the numbers were there.

    With everything randomised, the mean rank correlation over scenes and draws, for each measure:

    - "fails": 0.5 or more;
    - "in part": more than 0.1 above what the trained model's maps of different scenes have in common;
    - "passes": less than that for every measure.

    Args:
        randomised: for each measure, [scenes, draws, stages].
        different: for each measure, [scenes].

    Example:
        >>> verdict([torch.tensor([[[1.0, 0.3]]])], [torch.tensor([0.1])])
        Verdict(text='in part', blind=True)
    """
    last = [float(each[..., -1].mean()) for each in randomised]
    shared = [float(each.mean()) for each in different]
    blind = all(float(each[..., 0].mean()) >= _BLIND_FROM for each in randomised)
    if max(last) >= FAILS_FROM:
        return Verdict("fails", blind)
    partly = any(each > own + _MARGIN for each, own in zip(last, shared, strict=True))
    return Verdict("in part" if partly else "passes", blind)
