"""CIFAR-10 and CIFAR-100, as torchvision reads them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from captum_ultra.data.class_samples import ClassificationDataset, ClassSample
from captum_ultra.data.transforms import image_tensor
from captum_ultra.errors import MissingExtraError

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Cifar10", "Cifar100"]


class _Cifar(ClassificationDataset):
    """Images of 32 x 32 pixels of one archive, all in memory."""

    reader: str  # in torchvision.datasets

    def __init__(
        self, root: str | Path, split: str = "test", transform: Callable[[Image], Tensor] | None = None
    ) -> None:
        if split not in ("test", "train"):
            raise ValueError(f"split is {split!r}; {type(self).__name__} has 'test', 'train'")
        data = _read(self.reader, Path(root), split == "train")
        self.pixels, self.classes, self.labels = data.data, tuple(data.classes), tuple(data.targets)
        self.names = tuple(f"{split}-{index}" for index in range(len(self.labels)))
        self.transform = transform or image_tensor

    def __getitem__(self, index: int) -> ClassSample:
        from PIL import Image as pil

        self.check_index(index)
        return ClassSample(self.transform(pil.fromarray(self.pixels[index])), self.labels[index], self.names[index])


class Cifar10(_Cifar):
    """CIFAR-10: 10 classes; "test" has 10,000 images.

    The layout is that of the archive ``cifar-10-python.tar.gz``::

        cifar-10-batches-py/batches.meta
        cifar-10-batches-py/test_batch
        cifar-10-batches-py/data_batch_1

    The files are pickles, and a pickle is a program: torchvision's reader takes only those whose checksums are the
    archive's, which are compared before one of them is run. So all files of the archive must be there.

    Args:
        root: the folder that holds ``cifar-10-batches-py``, or that folder.
        split: "test" or "train".
        transform: from a PIL image to a tensor, e.g. a model's preprocessing; None keeps pixels in [0, 1].

    Attributes:
        classes: the names of the classes, in order.
        names: ``split-number`` of every image, in the files' order.
        labels: the class of every image.

    Raises:
        ValueError: for an unknown split, or a file that is damaged or another; names it.
        FileNotFoundError: for a file that is missing.
        MissingExtraError: if torchvision is not installed.

    Source:
        Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009), section 3.1.
    """

    reader = "CIFAR10"


class Cifar100(_Cifar):
    """CIFAR-100 with its 100 fine classes; "test" has 10,000 images.

    The layout is that of the archive ``cifar-100-python.tar.gz``: the files ``meta``, ``test`` and ``train`` in the
    folder ``cifar-100-python``. They are read as those of :class:`Cifar10`.

    Args:
        root: the folder that holds ``cifar-100-python``, or that folder.
        split: "test" or "train".
        transform: from a PIL image to a tensor, e.g. a model's preprocessing; None keeps pixels in [0, 1].

    Attributes:
        classes: the names of the classes, in order.
        names: ``split-number`` of every image, in the file's order.
        labels: the class of every image.

    Raises:
        ValueError: for an unknown split, or a file that is damaged or another; names it.
        FileNotFoundError: for a file that is missing.
        MissingExtraError: if torchvision is not installed.

    Source:
        Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009), section 3.1.
    """

    reader = "CIFAR100"


def _read(name: str, root: Path, train: bool) -> Any:
    """torchvision's data set, with what is wrong with its files by name."""
    if find_spec("torchvision") is None:
        raise MissingExtraError("torchvision is not installed; pip install 'captum_ultra[timm]' brings it.")
    from captum_ultra.models.torchvision_shim import ensure_torchvision_imports

    ensure_torchvision_imports()
    reader = getattr(importlib.import_module("torchvision.datasets"), name)
    integrity = importlib.import_module("torchvision.datasets.utils").check_integrity
    if root.resolve().name == reader.base_folder:
        root = root.resolve().parent
    for file, checksum in ((reader.meta["filename"], reader.meta["md5"]), *reader.test_list, *reader.train_list):
        path = root / reader.base_folder / file
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} is missing; give the folder where {reader.filename} was unpacked as root: it holds the folder "
                f"{reader.base_folder}"
            )
        if not integrity(path, checksum):
            raise ValueError(
                f"{path} is not the file of {reader.filename}: its checksum differs, so it is damaged or another, and "
                "is not opened; unpack the archive again"
            )
    return reader(root, train)
