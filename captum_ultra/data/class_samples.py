"""What data sets about one class an image give: an image with its class, or an image with the mask of its object."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["ClassSample", "ClassificationDataset", "LocalisationDataset", "LocalisationSample"]


@dataclass(frozen=True)
class ClassSample:
    """An image with one class.

    Attributes:
        image: float32 [3, H, W], RGB in [0, 1], or what the reader's transform made of it.
        label: number of the class.
        name: unique within the data set; fit for results.
    """

    image: Tensor
    label: int
    name: str


@dataclass(frozen=True)
class LocalisationSample:
    """An image with the mask of the object that it is about.

    Attributes:
        image: float32 [3, H, W], RGB in [0, 1], not normalised.
        mask: bool [H, W], the object's pixels.
        name: unique within the data set; fit for results.
        label: number of the object's class; None where the data set does not tell.
    """

    image: Tensor
    mask: Tensor
    name: str
    label: int | None = None


class ClassificationDataset(Dataset[ClassSample]):
    """Images with one class each, numbered 0 .. N-1.

    ``names`` is known without decoding an image, so that a run can tell what it has finished.

    Attributes:
        classes: the names of the classes 0 .. C-1.
        names: the samples' names, in order.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> ClassSample:
        """Sample ``index``; raises IndexError past the end, ValueError naming a file that is damaged."""

    def check_index(self, index: int) -> None:
        """Raise IndexError unless 0 <= index < N: what ends a loop over the samples."""
        _check_index(index, len(self.names))


class LocalisationDataset(Dataset[LocalisationSample]):
    """Images with the mask of their object, numbered 0 .. N-1.

    Attributes:
        names: the samples' names, in order, known without decoding an image.
        classes: the names of the classes; empty where the data set tells no class.
    """

    names: tuple[str, ...]
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> LocalisationSample:
        """Sample ``index``; raises IndexError past the end, ValueError naming a file that is damaged."""

    def check_index(self, index: int) -> None:
        """Raise IndexError unless 0 <= index < N: what ends a loop over the samples."""
        _check_index(index, len(self.names))


def _check_index(index: int, length: int) -> None:
    if not 0 <= index < length:
        raise IndexError(f"sample {index} of {length}")
