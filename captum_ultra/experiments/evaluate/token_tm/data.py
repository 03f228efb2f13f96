"""The images of an evaluation of explanations of a class."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from captum_ultra.data.class_registry import (
    CLASSIFICATION_DATASETS,
    LOCALISATION_DATASETS,
    classification_dataset,
    localisation_dataset,
)
from captum_ultra.data.class_samples import ClassificationDataset, ClassSample, LocalisationDataset, LocalisationSample
from captum_ultra.experiments.evaluate.token_tm.options import TokenTMOptions

__all__ = ["CLASSES", "EITHER", "MASKS", "Sample", "label_of", "mask_of", "open_data"]

MASKS = LOCALISATION_DATASETS
CLASSES = CLASSIFICATION_DATASETS
EITHER = tuple(dict.fromkeys((*MASKS, *CLASSES)))

Sample = ClassSample | LocalisationSample


def open_data(
    options: TokenTMOptions, root: str | Path | None, side: int, known: tuple[str, ...]
) -> ClassificationDataset | LocalisationDataset:
    """The data set of an evaluation; scenes come with masks and classes.

    Args:
        options: name, part and seed.
        root: where its archives were unpacked; None for scenes.
        side: of the model's input, which is the size of scenes.
        known: the names that the study takes.

    Raises:
        ValueError: for a name that the study does not take, an unknown split, or a root that is missing or too much.
        FileNotFoundError: for files that are missing; names them.
    """
    if options.data not in known:
        raise ValueError(f"{options.study} takes no data set {options.data!r}; it takes {', '.join(known)}")
    read = localisation_dataset if options.data in MASKS else classification_dataset
    return read(options.data, root, options.split, length=options.scenes, seed=options.seed, size=side)


def mask_of(sample: Sample) -> Tensor:
    """The mask of the object, bool [H, W].

    Raises:
        ValueError: where there is none.
    """
    if not isinstance(sample, LocalisationSample):
        raise ValueError(f"{sample.name} has no mask of its object")
    return sample.mask


def label_of(sample: Sample) -> int:
    """The class of the object.

    Raises:
        ValueError: where it is not known.
    """
    if sample.label is None:
        raise ValueError(f"{sample.name} has no label")
    return sample.label
