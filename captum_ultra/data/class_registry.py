"""Data sets about one class an image by name: what ``--data`` takes where a classifier is explained."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from captum_ultra.data.cifar import Cifar10, Cifar100
from captum_ultra.data.class_samples import ClassificationDataset, LocalisationDataset
from captum_ultra.data.imagenet import ClassFolders
from captum_ultra.data.imagenet_seg import ImageNetSegmentation
from captum_ultra.data.object_scene_samples import ObjectSceneClasses, ObjectSceneMasks
from captum_ultra.data.object_scenes import ObjectScenes

__all__ = ["CLASSIFICATION_DATASETS", "LOCALISATION_DATASETS", "classification_dataset", "localisation_dataset"]


def classification_dataset(
    name: str, root: str | Path | None = None, split: str | None = None, *, length: int = 100, seed: int = 0,
    size: int = 64,
) -> ClassificationDataset:  # fmt: skip
    """Images with one class each, by name.

    Args:
        name: "imagenet", "cifar10", "cifar100" or "scenes".
        root: where the archives were unpacked; "scenes" are rendered and take none.
        split: as the data set names its parts; by default the one that is usually reported: "val" of "imagenet",
            "test" of the CIFARs, "held_out" of "scenes".
        length: of "scenes", how many.
        seed: of "scenes".
        size: of "scenes", their height and width in pixels.

    Returns:
        A data set of :class:`captum_ultra.data.class_samples.ClassSample`.

    Raises:
        ValueError: for an unknown name (the message lists those known) or split, or a root that is missing or too much.
        FileNotFoundError: for files that are missing.

    Example:
        >>> classification_dataset("scenes", length=3, seed=1).names[2]
        'object-scene-1-2'
    """
    _check(name, root, CLASSIFICATION_DATASETS)
    if name == "scenes":
        return ObjectSceneClasses(_scenes(split, length, seed, size))
    reader, usual = _CLASSES[name]
    return reader(root, usual if split is None else split)


def localisation_dataset(
    name: str, root: str | Path | None = None, split: str | None = None, *, length: int = 100, seed: int = 0,
    size: int = 64,
) -> LocalisationDataset:  # fmt: skip
    """Images with the mask of their object, by name.

    Args:
        name: "imagenet-seg" or "scenes".
        root: the file of "imagenet-seg" or its folder; "scenes" are rendered and take none.
        split: of "scenes", "held_out" by default; "imagenet-seg" has no parts.
        length: of "scenes", how many.
        seed: of "scenes".
        size: of "scenes", their height and width in pixels.

    Returns:
        A data set of :class:`captum_ultra.data.class_samples.LocalisationSample`.

    Raises:
        ValueError: for an unknown name (the message lists those known) or split, or a root that is missing or too much.
        FileNotFoundError: for files that are missing.
        MissingExtraError: if the library that reads the file is not installed.

    Example:
        >>> localisation_dataset("scenes", length=3)[0].mask.shape
        torch.Size([64, 64])
    """
    _check(name, root, LOCALISATION_DATASETS)
    if name == "scenes":
        return ObjectSceneMasks(_scenes(split, length, seed, size))
    if split is not None:
        raise ValueError(f"split is {split!r}; {name} is one file without parts: leave it away")
    assert root is not None  # or _check had raised
    return ImageNetSegmentation(root)


def _check(name: str, root: str | Path | None, known: tuple[str, ...]) -> None:
    if name not in known:
        kind = "masks" if known is LOCALISATION_DATASETS else "classes"
        raise ValueError(f"data set {name!r} is unknown; with {kind} of objects there are {', '.join(known)}")
    if name == "scenes" and root is not None:
        raise ValueError(f"scenes are rendered, not read: leave root={str(root)!r} away")
    if name != "scenes" and root is None:
        raise ValueError(f"{name} is read from files: give the folder where its archives were unpacked as root")


def _scenes(split: str | None, length: int, seed: int, size: int) -> ObjectScenes:
    return ObjectScenes(length, seed, size, split="held_out" if split in (None, "val") else str(split))


_CLASSES: dict[str, tuple[Callable[..., ClassificationDataset], str]] = {
    "imagenet": (ClassFolders, "val"),
    "cifar10": (Cifar10, "test"),
    "cifar100": (Cifar100, "test"),
}
CLASSIFICATION_DATASETS: tuple[str, ...] = (*_CLASSES, "scenes")
LOCALISATION_DATASETS: tuple[str, ...] = ("imagenet-seg", "scenes")
