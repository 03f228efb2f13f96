"""Potsdam-3 from the crops that IIC prepared and STEGO distributes: MATLAB files and lists."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from captum_ultra.data.label_files import read_list, require_folder
from captum_ultra.data.potsdam import POTSDAM3_CLASSES, POTSDAM_CLASSES, merge_classes
from captum_ultra.data.samples import IGNORE, SegmentationDataset, SegmentationSample
from captum_ultra.data.transforms import Labels, Transform, image_tensor
from captum_ultra.errors import MissingExtraError

__all__ = ["PreparedPotsdam"]

_LISTS = {"train": "labelled_train.txt", "val": "labelled_test.txt"}
_HINT = "it is part of the data that IIC's potsdam_prepare.py makes and that STEGO distributes"


class PreparedPotsdam(SegmentationDataset):
    """Potsdam-3 with the published split; "val" are the 855 crops that the tables report.

    The layout::

        labelled_test.txt        names, one a line
        imgs/4711.mat            "img", uint8 [200, 200, 4], red, green, blue, infrared
        gt/4711.mat              "gt", integers [200, 200], 0 .. 5

    Reading needs scipy, which the extra "segmentation" brings.

    Args:
        root: the folder that holds ``imgs``, ``gt`` and the lists.
        split: "train" or "val".
        transform: applied to image and labels together, e.g. ``ResizeCrop(320)``.
        merged: three classes; False for the original six.

    Raises:
        ValueError: for an unknown split.
        FileNotFoundError: for a folder, a list or a file that is missing.
        MissingExtraError: if scipy is not installed.

    Source:
        Ji et al. (IIC, ICCV 2019), section 4.2.
    """

    def __init__(
        self, root: str | Path, split: str = "val", transform: Transform | None = None, *, merged: bool = True
    ) -> None:
        if split not in _LISTS:
            raise ValueError(f"split is {split!r}; Potsdam has labels for {', '.join(map(repr, _LISTS))}")
        if find_spec("scipy") is None:
            raise MissingExtraError("scipy is not installed; pip install 'captum_ultra[segmentation]' brings it.")
        root = Path(root)
        self._images, self._labels = (require_folder(root / name, _HINT) for name in ("imgs", "gt"))
        self.names = tuple(read_list(root / _LISTS[split], _HINT))
        files = [folder / f"{name}.mat" for name in self.names for folder in (self._images, self._labels)]
        missing = [path for path in files if not path.is_file()]
        if missing:
            raise FileNotFoundError(f"{missing[0]} is missing ({len(missing)} of {len(files)} files); {_HINT}")
        self.classes = POTSDAM3_CLASSES if merged else POTSDAM_CLASSES
        self.transform, self.merged = transform, merged

    def __getitem__(self, index: int) -> SegmentationSample:
        from PIL import Image

        self.check_index(index)
        name = self.names[index]
        pixels = _array(self._images / f"{name}.mat", "img", 3)
        labels = self._classes(self._labels / f"{name}.mat")
        if pixels.dtype != np.uint8 or pixels.shape[2] < 3 or pixels.shape[:2] != labels.shape:
            raise ValueError(
                f"{self._images / name}.mat holds {pixels.dtype} {list(pixels.shape)} for labels {list(labels.shape)}; "
                "expected uint8 [H, W, 3 or 4] of the same size"
            )
        image = Image.fromarray(np.ascontiguousarray(pixels[..., :3]))
        if self.transform is not None:
            image, labels = self.transform(image, labels)
        return SegmentationSample(image_tensor(image), torch.from_numpy(labels.astype(np.int64)), name)

    def _classes(self, path: Path) -> Labels:
        values = _array(path, "gt", 2)
        if not np.isin(values, (*range(len(POTSDAM_CLASSES)), IGNORE)).all():
            raise ValueError(f"{path} holds labels outside 0 .. {len(POTSDAM_CLASSES) - 1}; the file is damaged")
        labels = values.astype(np.uint8)
        return merge_classes(labels) if self.merged else labels


def _array(path: Path, key: str, axes: int) -> NDArray[Any]:
    """The array of a MATLAB file.

    Raises:
        ValueError: names a file that is damaged or holds something else.
    """
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        values = loadmat(path).get(key)
    except (MatReadError, ValueError, TypeError, OSError) as error:  # by kind of damage
        raise ValueError(f"{path} is damaged, or no MATLAB file: {error}") from error
    if values is None or values.ndim != axes:
        raise ValueError(f"{path} holds no array {key!r} with {axes} axes; {_HINT}")
    return values
