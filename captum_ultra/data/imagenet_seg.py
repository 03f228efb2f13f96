"""ImageNet-Segmentation: 4,276 images of ImageNet with the mask of their object."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from captum_ultra.data.class_samples import LocalisationDataset, LocalisationSample
from captum_ultra.data.transforms import Transform, image_tensor
from captum_ultra.errors import MissingExtraError
from captum_ultra.io import rgb

__all__ = ["IMAGENET_SEG_FILE", "ImageNetSegmentation"]

IMAGENET_SEG_FILE = "gtsegs_ijcv.mat"
_IMAGES, _MASKS = "value/img", "value/gt"
_NESTED = 3  # cells within cells at most


class ImageNetSegmentation(LocalisationDataset):
    """The segmented images of ImageNet; no class is stored with them.

    One MATLAB file of version 7.3, which is HDF5: ``value/img`` and ``value/gt`` are cells, that is arrays of
    references, to the image uint8 [3, W, H] and to the mask [W, H] of 0 and 1 (in another cell); axes are stored in
    MATLAB's order, the last first.

    The file is opened when a sample is first read, once in every process.

    Args:
        root: the file ``gtsegs_ijcv.mat``, or the folder that holds it.
        transform: applied to image and mask together, e.g. ``ResizeCrop(224)``; None keeps their size.

    Attributes:
        names: the samples' numbers in the file, as text.

    Raises:
        MissingExtraError: if h5py is not installed.
        FileNotFoundError: if there is no such file.
        ValueError: if it is no HDF5 file, or holds something else.

    Source:
        Guillaumin, Küttel and Ferrari, ImageNet Auto-Annotation with Segmentation Propagation (IJCV 2014).
    """

    def __init__(self, root: str | Path, transform: Transform | None = None) -> None:
        if find_spec("h5py") is None:
            raise MissingExtraError("h5py is not installed; pip install 'captum_ultra[imagenet_seg]' brings it.")
        path = Path(root)
        self.path = path / IMAGENET_SEG_FILE if path.is_dir() else path
        if not self.path.is_file():
            raise FileNotFoundError(
                f"{self.path} is missing; give {IMAGENET_SEG_FILE} of ImageNet-Segmentation, or its folder, as root"
            )
        self.transform = transform
        self._file: Any = None
        images, masks = len(self._cells(_IMAGES)), len(self._cells(_MASKS))
        if images != masks:
            raise ValueError(f"{self.path} holds {images} images, but {masks} masks: the file is damaged")
        self.names = tuple(f"imagenet-seg-{index}" for index in range(images))

    def __getitem__(self, index: int) -> LocalisationSample:
        from PIL import Image

        self.check_index(index)
        pixels, mask = self._array(_IMAGES, index), self._array(_MASKS, index)
        if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[0] != 3):
            raise ValueError(f"{self.path}: image {index} is {pixels.dtype} {pixels.shape}, expected uint8 (3, W, H)")
        if mask.shape != pixels.shape[-2:] or not np.isin(mask, (0, 1)).all():
            raise ValueError(
                f"{self.path}: mask {index} has values {np.unique(mask)[:3].tolist()} and shape {mask.shape}, expected "
                f"0 and 1 in {pixels.shape[-2:]}"
            )
        # The transpose undoes MATLAB's order of axes.
        image = rgb(Image.fromarray(np.ascontiguousarray(pixels.T)))
        labels = np.ascontiguousarray(mask.T).astype(np.uint8)
        if self.transform is not None:
            image, labels = self.transform(image, labels)
        return LocalisationSample(image_tensor(image), torch.from_numpy(labels != 0), self.names[index])

    def __getstate__(self) -> dict[str, Any]:
        """Without the open file, which no other process can use."""
        return {**self.__dict__, "_file": None}

    def _open(self) -> Any:
        if self._file is None:
            import h5py

            try:
                self._file = h5py.File(self.path, "r")
            except OSError as error:
                raise ValueError(f"{self.path} is damaged, or no HDF5 file: {error}") from error
        return self._file

    def _cells(self, name: str) -> NDArray[Any]:
        """References [N], one a sample; MATLAB stores a column as [N, 1] or [1, N]."""
        found = self._open().get(name)
        if found is None or not _refers(found):
            raise ValueError(f"{self.path} holds no cells {name!r}: it is not {IMAGENET_SEG_FILE}")
        return np.asarray(found[()]).reshape(-1)

    def _array(self, name: str, index: int) -> NDArray[Any]:
        try:
            found = self._open()[self._cells(name)[index]]
            for _ in range(_NESTED):
                if not _refers(found):
                    return np.asarray(found[()])
                found = self._open()[np.asarray(found[()]).reshape(-1)[0]]
        except (OSError, KeyError, ValueError, IndexError, AttributeError) as error:
            raise ValueError(f"{self.path}: sample {index} of {name!r} is damaged: {error}") from error
        raise ValueError(f"{self.path}: sample {index} of {name!r} leads to no array")


def _refers(dataset: Any) -> bool:
    import h5py

    return getattr(dataset, "dtype", None) == h5py.ref_dtype
