"""What every segmentation data set gives: an image, the class of every pixel, a name."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from torch import Tensor
from torch.utils.data import Dataset

__all__ = ["IGNORE", "SegmentationDataset", "SegmentationSample"]

IGNORE = 255  # the label of pixels that no metric counts


@dataclass(frozen=True)
class SegmentationSample:
    """One image and the class of its pixels.

    Attributes:
        image: float32 [3, H, W], RGB in [0, 1], not normalised.
        labels: int64 [H, W], 0 .. C-1, or ``IGNORE`` (255).
        name: unique within the data set, without a suffix; fit for results and file names.
    """

    image: Tensor
    labels: Tensor
    name: str


class SegmentationDataset(Dataset[SegmentationSample]):
    """Images with labels, numbered 0 .. N-1.

    ``names`` is known without reading an image, so that a run can tell what it has finished.

    Attributes:
        classes: the names of the classes 0 .. C-1.
        names: the samples' names, in order.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def __getitem__(self, index: int) -> SegmentationSample:
        """Sample ``index``; raises IndexError past the end, ValueError naming a file that is damaged."""

    def check_index(self, index: int) -> None:
        """Raise IndexError unless 0 <= index < N: what ends a loop over the samples."""
        if not 0 <= index < len(self.names):
            raise IndexError(f"sample {index} of {len(self.names)}")
