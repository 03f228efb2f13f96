"""CIFAR-10 and CIFAR-100."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from captum_ultra.data.class_samples import ClassificationDataset, ClassSample
from captum_ultra.data.safe_pickle import read_plain_pickle
from captum_ultra.data.transforms import image_tensor

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Cifar10", "Cifar100"]

_SIDE = 32
_VALUES = 3 * _SIDE * _SIDE  # of one image


@dataclass(frozen=True)
class _Layout:
    """Where an archive keeps what."""

    folder: str
    archive: str
    meta: str
    names: bytes
    labels: bytes
    classes: int
    batches: dict[str, tuple[str, ...]]


class _Cifar(ClassificationDataset):
    """Images of 32 x 32 pixels from the batches of one archive, all in memory."""

    layout: _Layout

    def __init__(
        self, root: str | Path, split: str = "test", transform: Callable[[Image], Tensor] | None = None
    ) -> None:
        layout = self.layout
        if split not in layout.batches:
            raise ValueError(f"split is {split!r}; {layout.folder} has {', '.join(map(repr, layout.batches))}")
        folder = Path(root) / layout.folder
        folder = folder if folder.is_dir() else Path(root)
        paths = [folder / name for name in (layout.meta, *layout.batches[split])]
        for path in paths:
            if not path.is_file():
                raise FileNotFoundError(
                    f"{path} is missing; give the folder where {layout.archive} was unpacked as root: it holds the "
                    f"folder {layout.folder}"
                )
        self.classes = _class_names(paths[0], layout)
        batches = [_batch(path, layout) for path in paths[1:]]
        self.pixels = np.concatenate([pixels for pixels, _ in batches])
        self.labels = tuple(label for _, labels in batches for label in labels)
        self.names = tuple(f"{split}-{index}" for index in range(len(self.labels)))
        self.transform = transform or image_tensor

    def __getitem__(self, index: int) -> ClassSample:
        from PIL import Image as pil

        self.check_index(index)
        # Stored plane after plane: red, green, blue.
        pixels = self.pixels[index].reshape(3, _SIDE, _SIDE).transpose(1, 2, 0)
        image = self.transform(pil.fromarray(np.ascontiguousarray(pixels)))
        return ClassSample(image, self.labels[index], self.names[index])


class Cifar10(_Cifar):
    """CIFAR-10: 10 classes; "test" has 10,000 images.

    The layout is that of the archive ``cifar-10-python.tar.gz``::

        cifar-10-batches-py/batches.meta
        cifar-10-batches-py/test_batch
        cifar-10-batches-py/data_batch_1

    The files are pickles. Only plain data and arrays are taken from them; a pickle that asks for anything else is
    refused before it runs.

    Args:
        root: the folder that holds ``cifar-10-batches-py``, or that folder.
        split: "test" or "train".
        transform: from a PIL image to a tensor, e.g. a model's preprocessing; None keeps pixels in [0, 1].

    Attributes:
        classes: the names of the classes, in order.
        names: ``split-number`` of every image, in the files' order.
        labels: the class of every image.

    Raises:
        ValueError: for an unknown split, or a file that is damaged; names it.
        FileNotFoundError: for a file that is missing.

    Source:
        Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009), section 3.1.
    """

    layout = _Layout(
        "cifar-10-batches-py", "cifar-10-python.tar.gz", "batches.meta", b"label_names", b"labels", 10,
        {"test": ("test_batch",), "train": tuple(f"data_batch_{number}" for number in range(1, 6))},
    )  # fmt: skip


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
        ValueError: for an unknown split, or a file that is damaged; names it.
        FileNotFoundError: for a file that is missing.

    Source:
        Krizhevsky, Learning Multiple Layers of Features from Tiny Images (2009), section 3.1.
    """

    layout = _Layout(
        "cifar-100-python", "cifar-100-python.tar.gz", "meta", b"fine_label_names", b"fine_labels", 100,
        {"test": ("test",), "train": ("train",)},
    )  # fmt: skip


def _class_names(path: Path, layout: _Layout) -> tuple[str, ...]:
    found = _entry(path, layout.names)
    if not (isinstance(found, list) and len(found) == layout.classes and all(isinstance(n, bytes) for n in found)):
        raise ValueError(f"{path} does not name {layout.classes} classes; unpack {layout.archive} again")
    return tuple(name.decode() for name in found)


def _batch(path: Path, layout: _Layout) -> tuple[NDArray[np.uint8], list[int]]:
    """Pixels uint8 [N, 3072] and the class of every row."""
    pixels, labels = _entry(path, b"data"), _entry(path, layout.labels)
    if not (isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8 and pixels.shape[1:] == (_VALUES,)):
        raise ValueError(f"{path} holds no images of {_VALUES} bytes each; unpack {layout.archive} again")
    if not (isinstance(labels, list) and len(labels) == len(pixels)):
        raise ValueError(f"{path} does not hold one label for each of its {len(pixels)} images")
    wrong = [label for label in labels if not (isinstance(label, int) and 0 <= label < layout.classes)]
    if wrong:
        raise ValueError(f"{path} holds the label {wrong[0]!r}; {layout.folder} has 0 to {layout.classes - 1}")
    return pixels, labels


def _entry(path: Path, key: bytes) -> Any:
    found = read_plain_pickle(path)
    if not isinstance(found, dict) or key not in found:
        raise ValueError(f"{path} holds no entry {key.decode()!r}: it is damaged, or of another data set")
    return found[key]
