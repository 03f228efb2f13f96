"""PASCAL VOC 2012, semantic segmentation."""

from __future__ import annotations

from pathlib import Path

from captum_ultra.data.label_files import LabelFiles, Pair, label_table, read_list
from captum_ultra.data.samples import IGNORE
from captum_ultra.data.transforms import Transform

__all__ = ["VOC_CLASSES", "VocSegmentation"]

VOC_CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
_SPLITS = ("train", "val", "trainval")


class VocSegmentation(LabelFiles):
    """PASCAL VOC 2012: 21 classes, background included; "val" has 1,449 images.

    The layout is that of the archive ``VOCtrainval_11-May-2012.tar``::

        VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt
        VOCdevkit/VOC2012/JPEGImages/2007_000033.jpg
        VOCdevkit/VOC2012/SegmentationClass/2007_000033.png

    Pixels near object borders are void (255) in the files and here.

    Args:
        root: the folder that holds ``VOCdevkit``, or ``VOCdevkit``, or ``VOC2012`` itself.
        split: "train", "val" or "trainval".
        transform: applied to image and labels together, e.g. ``ResizeCrop(320)``.

    Raises:
        ValueError: for an unknown split.
        FileNotFoundError: for a folder, a list or a file that is missing.

    Source:
        Everingham et al., The PASCAL Visual Object Classes Challenge 2012, development kit.
    """

    def __init__(self, root: str | Path, split: str = "val", transform: Transform | None = None) -> None:
        if split not in _SPLITS:
            raise ValueError(f"split is {split!r}; VOC 2012 has {', '.join(map(repr, _SPLITS))} with segmentations")
        folder = _year(Path(root))
        names = read_list(
            folder / "ImageSets" / "Segmentation" / f"{split}.txt",
            "it is part of VOCtrainval_11-May-2012.tar; give the folder where that was unpacked as root",
        )
        pairs = [
            Pair(name, folder / "JPEGImages" / f"{name}.jpg", folder / "SegmentationClass" / f"{name}.png")
            for name in names
        ]
        meaning = {value: value for value in (*range(len(VOC_CLASSES)), IGNORE)}
        super().__init__(pairs, VOC_CLASSES, label_table(meaning), transform)


def _year(root: Path) -> Path:
    candidates = (root / "VOCdevkit" / "VOC2012", root / "VOC2012", root)
    return next((folder for folder in candidates if (folder / "ImageSets").is_dir()), candidates[0])
