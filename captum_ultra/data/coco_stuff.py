"""COCO-Stuff with its 27 coarse classes."""

from __future__ import annotations

from pathlib import Path

from captum_ultra.data.coco_hierarchy import COARSE_CLASSES, FINE_CLASSES, FINE_TO_COARSE
from captum_ultra.data.label_files import LabelFiles, Pair, label_table, read_list, require_folder, visible
from captum_ultra.data.samples import IGNORE
from captum_ultra.data.transforms import Transform

__all__ = ["CURATED_LIST", "CocoStuffSegmentation"]

CURATED_LIST = "Coco164kFull_Stuff_Coarse_7.txt"
_SPLITS = {"train": "train2017", "val": "val2017"}


class CocoStuffSegmentation(LabelFiles):
    """COCO-Stuff 164k: 12 groups of things and 15 groups of stuff, or all 182 classes.

    The layout is that of ``train2017.zip`` and ``val2017.zip`` unpacked in ``images``, and of
    ``stuffthingmaps_trainval2017.zip`` unpacked in ``annotations``, with the curated lists that IIC
    and STEGO distribute::

        images/val2017/000000000139.jpg
        annotations/val2017/000000000139.png
        curated/val2017/Coco164kFull_Stuff_Coarse_7.txt

    The published unsupervised results evaluate on the images of that validation list, one name a line.
    Label 255 (unlabelled) is ignored.

    Args:
        root: the folder that holds ``images`` and ``annotations``.
        split: "train" or "val".
        transform: applied to image and labels together, e.g. ``ResizeCrop(320)``.
        curated: file name of the list in ``curated/<split>2017``; None takes every image of the split.
        coarse: 27 classes; False for 182.

    Raises:
        ValueError: for an unknown split.
        FileNotFoundError: for a folder, a list or a file that is missing.

    Source:
        Caesar et al. (CVPR 2018), label hierarchy; Ji et al. (IIC, ICCV 2019) for the curated lists.
    """

    def __init__(
        self, root: str | Path, split: str = "val", transform: Transform | None = None, *,
        curated: str | None = CURATED_LIST, coarse: bool = True,
    ) -> None:  # fmt: skip
        if split not in _SPLITS:
            raise ValueError(f"split is {split!r}; COCO-Stuff has labels for {', '.join(map(repr, _SPLITS))}")
        root, folder = Path(root), _SPLITS[split]
        labels = require_folder(root / "annotations" / folder, "unpack stuffthingmaps_trainval2017.zip in annotations")
        images = require_folder(root / "images" / folder, f"unpack {folder}.zip in images")
        if curated is None:
            names = [path.stem for path in visible(labels, "*.png")]
            if not names:
                raise FileNotFoundError(f"{labels} holds no *.png; unpack stuffthingmaps_trainval2017.zip there")
        else:
            names = read_list(
                root / "curated" / folder / curated,
                "it comes with IIC's and STEGO's data; curated=None takes every image, which is another evaluation",
            )
        pairs = [Pair(name, images / f"{name}.jpg", labels / f"{name}.png") for name in names]
        meaning = dict(enumerate(FINE_TO_COARSE if coarse else range(len(FINE_CLASSES))))
        classes = COARSE_CLASSES if coarse else FINE_CLASSES
        super().__init__(pairs, classes, label_table(meaning | {IGNORE: IGNORE}), transform)
