"""Segmentation data sets by name: what ``--data`` takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from captum_ultra.data.cityscapes import CityscapesSegmentation
from captum_ultra.data.coco_stuff import CocoStuffSegmentation
from captum_ultra.data.potsdam import PotsdamSegmentation
from captum_ultra.data.potsdam_prepared import PreparedPotsdam
from captum_ultra.data.samples import SegmentationDataset
from captum_ultra.data.scene_segmentation import SceneSegmentation
from captum_ultra.data.scenes import Scenes
from captum_ultra.data.transforms import ResizeCrop
from captum_ultra.data.voc import VocSegmentation

__all__ = ["SEGMENTATION_DATASETS", "segmentation_dataset"]

PROTOCOL_SIZE = 320  # pixels: the evaluation of the published unsupervised tables


def segmentation_dataset(
    name: str, root: str | Path | None = None, split: str = "val", *, size: int | None = None,
    interpolation: str = "bilinear", **options: Any,
) -> SegmentationDataset:  # fmt: skip
    """A segmentation data set by name, at the size of the protocol.

    Args:
        name: "voc", "coco-stuff", "cityscapes", "potsdam" or "scenes".
        root: where the archives were unpacked; "scenes" are rendered and take none.
        split: as the data set names its parts; of "scenes", "train" is the training stream and "val" the held-out one.
        size: side of the centred square in pixels, 320 by default; of "scenes", their size, 64 by default.
        interpolation: of the images, see :class:`captum_ultra.data.transforms.ResizeCrop`.
        options: of the data set itself: ``curated``, ``coarse`` ("coco-stuff"), ``merged`` ("potsdam"), ``length``,
            ``seed``, ``noise``, ``instances`` ("scenes").

    Returns:
        A data set of :class:`captum_ultra.data.samples.SegmentationSample`.

    Raises:
        ValueError: for an unknown name (the message lists those known) or split, or a root that is missing or too much.
        TypeError: for an option that the data set does not have.
        FileNotFoundError: for files that are missing.

    Example:
        >>> scenes = segmentation_dataset("scenes", length=3, seed=1)
        >>> len(scenes), scenes[0].image.shape
        (3, torch.Size([3, 64, 64]))
    """
    if name not in SEGMENTATION_DATASETS:
        raise ValueError(f"data set {name!r} is unknown; known are {', '.join(SEGMENTATION_DATASETS)}")
    if name == "scenes":
        if root is not None:
            raise ValueError(f"scenes are rendered, not read: leave root={str(root)!r} away")
        return _scenes(split, 64 if size is None else size, **options)
    if root is None:
        raise ValueError(f"{name} is read from files: give the folder where its archives were unpacked as root")
    transform = ResizeCrop(PROTOCOL_SIZE if size is None else size, interpolation)
    return _FROM_FILES[name](root, split, transform, **options)


def _scenes(
    split: str, size: int, length: int = 100, seed: int = 0, noise: float = 0.0, instances: bool = False
) -> SceneSegmentation:
    streams = {"train": "train", "val": "held_out", "held_out": "held_out"}
    if split not in streams:
        raise ValueError(f"split is {split!r}; scenes have 'train' and 'val'")
    return SceneSegmentation(Scenes(length, seed, size, noise, split=streams[split]), instances=instances)


def _potsdam(root: str | Path, split: str, transform: ResizeCrop, **options: Any) -> SegmentationDataset:
    """The prepared crops where they are, whose split is published; else the tiles of the archive."""
    if (Path(root) / "imgs").is_dir():
        return PreparedPotsdam(root, split, transform, **options)
    if split != "labelled":
        raise ValueError(
            f"split is {split!r}, but {root} does not hold IIC's prepared crops (imgs, gt, labelled_test.txt), whose "
            "random split is published nowhere else; the tiles of the official archive have one: 'labelled'"
        )
    return PotsdamSegmentation(root, transform, **options)


_FROM_FILES: dict[str, Callable[..., SegmentationDataset]] = {
    "voc": VocSegmentation,
    "coco-stuff": CocoStuffSegmentation,
    "cityscapes": CityscapesSegmentation,
    "potsdam": _potsdam,
}
SEGMENTATION_DATASETS: tuple[str, ...] = (*_FROM_FILES, "scenes")
