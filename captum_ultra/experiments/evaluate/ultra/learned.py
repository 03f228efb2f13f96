"""The scores of an evaluation; those of ULTra_W are trained first, and kept in its folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import nn

from captum_ultra.attr.scores import Score
from captum_ultra.experiments.evaluate.ultra.data import ModelInputs
from captum_ultra.segmentation.ultra_w import UltraW
from captum_ultra.segmentation.ultra_w_settings import UltraWSettings
from captum_ultra.segmentation.ultra_w_training import train_ultra_w

__all__ = ["LearnedScores", "scores_by_name"]

_NAMES = {"sum": "ULTra_S", "energy": "ULTra_E"}


@dataclass(frozen=True)
class LearnedScores:
    """ULTra_W of any layer, one file each: read, or trained and written; an interrupted training goes on.

    Attributes:
        model: whose latents.
        images: on which it is trained.
        settings: of the training.
        folder: of the files.
        show_progress: a bar over the steps.
    """

    model: nn.Module
    images: ModelInputs
    settings: UltraWSettings
    folder: Path
    show_progress: bool = False

    def of(self, layer: int) -> UltraW:
        """The score of one layer."""
        path = self.folder / f"ultra_w-layer{layer}.safetensors"
        checkpoint = path.with_suffix(".checkpoint")
        if not path.is_file():
            train_ultra_w(
                self.model, self.images, layer, self.settings, checkpoint=checkpoint, show_progress=self.show_progress
            ).save(path)
        checkpoint.unlink(missing_ok=True)
        return UltraW.load(path)


def scores_by_name(score: str, layer: int, learned: LearnedScores | None) -> dict[str, Score]:
    """What is explained at a layer, by the paper's names; with ULTra_W comes ULTra_S, from which it started."""
    if learned is None:
        return {_NAMES[score]: score}
    return {"ULTra_S": "sum", "ULTra_W": learned.of(layer)}
