"""Cityscapes with 27 classes."""

from __future__ import annotations

from pathlib import Path

from captum_ultra.data.label_files import LabelFiles, Pair, label_table, require_folder, visible
from captum_ultra.data.samples import IGNORE
from captum_ultra.data.transforms import Transform

__all__ = ["CITYSCAPES_CLASSES", "CityscapesSegmentation"]

CITYSCAPES_CLASSES = (
    "road", "sidewalk", "parking", "rail track", "building", "wall", "fence", "guard rail", "bridge", "tunnel",
    "pole", "polegroup", "traffic light", "traffic sign", "vegetation", "terrain", "sky", "person", "rider", "car",
    "truck", "bus", "caravan", "trailer", "train", "motorcycle", "bicycle",
)  # fmt: skip
_FIRST = 7  # smaller ids are void: unlabeled, ego vehicle, rectification border, out of roi, static, dynamic, ground
_SPLITS = ("train", "val")
_IMAGE, _LABELS = "_leftImg8bit.png", "_gtFine_labelIds.png"


class CityscapesSegmentation(LabelFiles):
    """Cityscapes: the 27 classes that unsupervised segmentation reports; "val" has 500 images.

    Label ids 7 (road) to 33 (bicycle) become 0 to 26, everything below is ignored: the evaluation of
    PiCIE and STEGO, not the 19 training classes of the benchmark. The layout is that of the archives
    ``leftImg8bit_trainvaltest.zip`` and ``gtFine_trainvaltest.zip``::

        leftImg8bit/val/frankfurt/frankfurt_000000_000294_leftImg8bit.png
        gtFine/val/frankfurt/frankfurt_000000_000294_gtFine_labelIds.png

    Args:
        root: the folder that holds ``leftImg8bit`` and ``gtFine``.
        split: "train" or "val"; the labels of "test" are not public.
        transform: applied to image and labels together, e.g. ``ResizeCrop(320)``.

    Raises:
        ValueError: for an unknown split.
        FileNotFoundError: for a folder or a file that is missing.

    Source:
        Cordts et al. (CVPR 2016), label definitions of cityscapesScripts.
    """

    def __init__(self, root: str | Path, split: str = "val", transform: Transform | None = None) -> None:
        if split not in _SPLITS:
            raise ValueError(f"split is {split!r}; Cityscapes has labels for {', '.join(map(repr, _SPLITS))}")
        folders = [require_folder(Path(root) / kind / split, "unpack leftImg8bit_trainvaltest.zip and "
                                  "gtFine_trainvaltest.zip there") for kind in ("leftImg8bit", "gtFine")]  # fmt: skip
        images, labels = (
            {path.relative_to(folder).as_posix().removesuffix(suffix): path for path in visible(folder, f"*/*{suffix}")}
            for folder, suffix in zip(folders, (_IMAGE, _LABELS), strict=True)
        )
        stems = sorted(images | labels)
        if not stems:
            raise FileNotFoundError(f"{folders[1]} holds no */*{_LABELS}; unpack gtFine_trainvaltest.zip there")
        pairs = [
            Pair(stem.rpartition("/")[2], folders[0] / f"{stem}{_IMAGE}", folders[1] / f"{stem}{_LABELS}")
            for stem in stems
        ]
        last = _FIRST + len(CITYSCAPES_CLASSES)
        meaning = dict.fromkeys((*range(_FIRST), IGNORE), IGNORE)
        meaning |= {value: value - _FIRST for value in range(_FIRST, last)}
        super().__init__(pairs, CITYSCAPES_CLASSES, label_table(meaning), transform)
