"""ImageNet and everything else that keeps one folder of images a class."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from captum_ultra.data.class_samples import ClassificationDataset, ClassSample
from captum_ultra.data.label_files import require_folder, visible
from captum_ultra.data.transforms import image_tensor
from captum_ultra.io import read_image

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["ClassFolders", "ClassSample"]

_SUFFIXES = {".jpeg", ".jpg", ".png"}


class ClassFolders(ClassificationDataset):
    """Images in one folder a class, numbered in the order of the folders' names; what is hidden is passed over.

    For ImageNet the folders are WordNet ids, whose order is that of the usual 1,000 class numbers::

        val/n01440764/ILSVRC2012_val_00000293.JPEG

    The validation archive unpacks into one flat folder; its images must be sorted into class folders first.

    Args:
        root: the folder that holds the split, or the class folders where ``split`` is None.
        split: "train", "val", or any folder below ``root``.
        transform: from a PIL image to a tensor, e.g. a model's preprocessing; None keeps pixels in [0, 1].

    Attributes:
        classes: the folders' names, in order.
        names: ``folder/stem`` of every image, in order.

    Raises:
        FileNotFoundError: if there is no such folder, or no image in class folders; says what lies there instead.

    Source:
        Russakovsky et al., ImageNet Large Scale Visual Recognition Challenge (2015).
    """

    def __init__(
        self, root: str | Path, split: str | None = "val", transform: Callable[[Image], Tensor] | None = None
    ) -> None:
        folder = Path(root) / split if split is not None else Path(root)
        require_folder(folder, "expected class folders such as n01440764 in it")
        self.classes = tuple(path.name for path in visible(folder) if path.is_dir())
        self.files = tuple(path for name in self.classes for path in visible(folder / name) if _is_image(path))
        if not self.files:
            flat = sum(map(_is_image, visible(folder)))
            found = f"{flat} images without class folders" if flat else "no images"
            raise FileNotFoundError(
                f"{folder} holds {found}; sort the images into one folder a class, named by WordNet id (n01440764, ...)"
            )
        self.names = tuple(f"{path.parent.name}/{path.stem}" for path in self.files)
        self.transform = transform or image_tensor

    def __getitem__(self, index: int) -> ClassSample:
        """Sample ``index``.

        Raises:
            IndexError: past the end.
            ValueError: names a file that is damaged.
        """
        self.check_index(index)
        path = self.files[index]
        label = self.classes.index(path.parent.name)
        return ClassSample(self.transform(read_image(path)), label, self.names[index])


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in _SUFFIXES
