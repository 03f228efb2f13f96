"""Every map on every scene: where it lies, and what the classifier does when pixels go in its order."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from captum_ultra.attr.presentation import min_max
from captum_ultra.data import ObjectScenes
from captum_ultra.experiments.cell_store import CellStore
from captum_ultra.experiments.class_faithfulness.maps import map_makers, on_patches
from captum_ultra.experiments.class_faithfulness.similarity import rank_correlation
from captum_ultra.metrics.localization import localization_average_precision, localization_confusion
from captum_ultra.models.vit_classifier import ViTClassifier
from captum_ultra.perturbation.class_result import ClassPerturbationResult
from captum_ultra.perturbation.class_test import ClassPerturbationTest

__all__ = ["EXPLAINED", "Faithfulness", "settings_of"]

EXPLAINED = ("predicted", "true")
"""Which class is explained: the one that the model predicts, or the scene's own."""

_TENTHS = tuple(round(0.1 * tenth, 1) for tenth in range(11))
_BATCH = 18  # one map's changed images; more at once are no faster on a CPU


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """Every map of every scene; results are kept one by one.

    Attributes:
        model: of the scenes.
        scenes: held-out ones.
        store: where results are kept, and looked up.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from captum_ultra.models.vit_classifier import ViTClassifierConfig
        >>> model = ViTClassifier(ViTClassifierConfig(dim=16, depth=1, heads=2)).eval()
        >>> study = Faithfulness(model, ObjectScenes(2), CellStore(Path(tempfile.mkdtemp()) / "cells.jsonl", {}))
        >>> study.run(["mask"])
        >>> study.removal("mask").curve("accuracy", "positive").mean.shape
        torch.Size([9])
    """

    model: ViTClassifier
    scenes: ObjectScenes
    store: CellStore

    def run(self, names: Sequence[str], *, progress: bool = False) -> None:
        """Compute what the store does not hold yet.

        Args:
            names: of methods and controls.
            progress: show a progress bar over the scenes.
        """
        makers = map_makers(self.model, names, self.scenes.seed)
        edges = map_makers(self.model, ["edges"])["edges"]
        for index in tqdm(range(len(self.scenes)), desc="scenes", disable=not progress):
            todo = [name for name in names if ("scene", index, name) not in self.store]
            if not todo:
                continue
            scene = self.scenes[index]
            x = self.model.preprocess(scene.image)[None]
            black = self.model.preprocess(torch.zeros_like(scene.image))[None]
            with torch.no_grad():
                logits = self.model(torch.cat([x, black]))
            predicted = int(logits[0].argmax())
            steep = on_patches(edges(scene, x, predicted, index), self.model.patch_size)
            for name in todo:
                started = time.process_time()
                values = makers[name](scene, x, predicted, index)
                seconds = time.process_time() - started
                found = {
                    "seconds": seconds,
                    "edges": rank_correlation(on_patches(values, self.model.patch_size), steep),
                    **_located(values, scene.mask),
                    "black": _prediction(logits[1], predicted),
                    "predicted": self._perturbed(x, values, predicted, scene.label),
                }
                if predicted != scene.label:
                    own = makers[name](scene, x, scene.label, index)
                    found["true"] = self._perturbed(x, own, scene.label, scene.label)
                self.store.add(("scene", index, name), found)

    def found(self, name: str) -> list[dict[str, Any]]:
        """What was kept, one a scene."""
        return [self.store["scene", index, name] for index in range(len(self.scenes))]

    def constant(self, name: str) -> int:
        """In how many scenes the map says nothing, as it exceeds its own mean nowhere."""
        return sum(not any(found["pixels"][true][1] for true in (0, 1)) for found in self.found(name))

    def removal(self, name: str, explained: str = "predicted") -> ClassPerturbationResult:
        """Pixels removed, in the orders "positive" and "negative"; ``explained`` is of ``EXPLAINED``."""
        cells = [found.get(explained, found["predicted"]) for found in self.found(name)]
        predicted, log_probability = (
            torch.tensor([cell[key] for cell in cells]) for key in ("predicted", "log_probability")
        )
        clean = [torch.tensor([cell["clean"][position] for cell in cells]) for position in (0, 1)]
        targets, labels = (torch.tensor([cell[key] for cell in cells]) for key in ("target", "label"))
        return ClassPerturbationResult(
            self._test.steps, self._test.orders, predicted, log_probability.double(), clean[0], clean[1].double(),
            targets, labels, settings=self._test.settings(),
        )  # fmt: skip

    def ends(self, name: str) -> ClassPerturbationResult:
        """The orders "deletion" and "insertion" of the predicted class, in tenths from nothing to everything.

        They are the removal tests, with the whole and the black image at their ends: deletion is "positive", and
        where the most relevant share of pixels was inserted, the least relevant rest is removed: "negative", read
        backwards. Only where a map has equal values would a test of its own take other pixels.
        """
        removal = self.removal(name)
        black = [torch.tensor([found["black"][position] for found in self.found(name)]) for position in (0, 1)]
        predicted = _with_ends(removal.predicted, removal.clean_predicted, black[0])
        log_probability = _with_ends(removal.log_probability, removal.clean_log_probability, black[1].double())
        return ClassPerturbationResult(
            _TENTHS, ("deletion", "insertion"), predicted, log_probability, removal.clean_predicted,
            removal.clean_log_probability, removal.targets, removal.labels, settings=removal.settings,
        )  # fmt: skip

    @cached_property
    def _test(self) -> ClassPerturbationTest:
        config = self.model.config
        return ClassPerturbationTest(
            self.model, ("positive", "negative"), mean=config.mean, std=config.std, internal_batch_size=_BATCH
        )

    def _perturbed(self, x: Tensor, values: Tensor, target: int, label: int) -> dict[str, Any]:
        result = self._test.run(x, values[None], target, label)
        return {
            "target": target,
            "label": label,
            "clean": [int(result.clean_predicted[0]), float(result.clean_log_probability[0])],
            "predicted": result.predicted[0].tolist(),
            "log_probability": result.log_probability[0].tolist(),
        }


def settings_of(model: ViTClassifier, seed: int) -> dict[str, Any]:
    """What the numbers depend on, weights and the way scenes look included: a store of other settings is refused."""
    weights = hashlib.sha256()
    for value in model.state_dict().values():
        weights.update(value.contiguous().numpy().tobytes())
    scene = hashlib.sha256(ObjectScenes(1, seed, model.image_size)[0].image.numpy().tobytes())
    return {"weights": weights.hexdigest()[:16], "seed": seed, "first scene": scene.hexdigest()[:16]}


def _located(values: Tensor, mask: Tensor) -> dict[str, Any]:
    scaled = min_max(values[None])
    counts = localization_confusion(scaled, mask[None])[0]
    return {
        "pixels": counts.tolist(),
        "average_precision": float(localization_average_precision(scaled, mask[None])[0]),
    }


def _prediction(logits: Tensor, target: int) -> list[float]:
    """The predicted class, and ln p of the target, of logits [K]."""
    return [int(logits.argmax()), float(logits.double().log_softmax(0)[target])]


def _with_ends(values: Tensor, clean: Tensor, black: Tensor) -> Tensor:
    """Values [N, 2, 9] of the orders "positive" and "negative" -> [N, 2, 11] of "deletion" and "insertion"."""
    clean, black = clean[:, None], black[:, None]
    deletion = torch.cat([clean, values[:, 0], black], dim=1)
    insertion = torch.cat([black, values[:, 1].flip(1), clean], dim=1)
    return torch.stack([deletion, insertion], dim=1)
