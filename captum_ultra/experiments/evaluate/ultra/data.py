"""The labelled images of an evaluation of ULTra."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from captum_ultra.data.registry import SEGMENTATION_DATASETS, segmentation_dataset
from captum_ultra.data.samples import SegmentationDataset
from captum_ultra.experiments.evaluate.inputs import ModelInput
from captum_ultra.experiments.evaluate.ultra.options import Options

__all__ = ["ModelInputs", "check_data", "open_data"]


@dataclass(frozen=True)
class ModelInputs:
    """Some images of a data set as inputs [3, side, side], read when asked for."""

    data: SegmentationDataset
    numbers: list[int]
    prepare: ModelInput

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int, /) -> Tensor:
        return self.prepare(self.data[self.numbers[index]].image)[0]


def open_data(options: Options, root: str | Path | None, side: int, split: str, length: int) -> SegmentationDataset:
    """The data set of an evaluation.

    Args:
        options: name, size, seed and noise.
        root: where its archives were unpacked; None for scenes.
        side: of the model's input, which is the size of scenes unless the options have another.
        split: the part.
        length: number of scenes.

    Raises:
        ValueError: for an unknown name or split, or a root that is missing or too much.
        FileNotFoundError: for files that are missing; names them.
    """
    if options.data != "scenes":
        return segmentation_dataset(options.data, root, split, size=options.size)
    return segmentation_dataset(
        "scenes", root, split, size=options.size or side, length=length, seed=options.seed, noise=options.noise
    )


def check_data(options: Options, root: str | Path | None) -> None:
    """Raise what :func:`open_data` would, before any model is loaded."""
    if options.data not in SEGMENTATION_DATASETS:
        raise ValueError(f"data set {options.data!r} is unknown; known are {', '.join(SEGMENTATION_DATASETS)}")
    splits = [options.split] if options.score != "w" else [options.split, options.train_split]
    for split in splits:
        open_data(options, root, 64, split, 1)
