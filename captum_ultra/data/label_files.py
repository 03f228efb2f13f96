"""Data sets that keep one image file and one label file a sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from captum_ultra.data.samples import SegmentationDataset, SegmentationSample
from captum_ultra.data.transforms import Labels, Transform, image_tensor
from captum_ultra.io import open_image, read_image

__all__ = ["LabelFiles", "Pair", "label_table", "read_list", "require_folder", "visible"]

_UNKNOWN = 254  # in a table: a value that the data set does not define


@dataclass(frozen=True)
class Pair:
    """Where one sample lies."""

    name: str
    image: Path
    labels: Path


class LabelFiles(SegmentationDataset):
    """Samples read from pairs of files.

    That every file exists is checked at once; what is in them when they are read, or by :meth:`check_files`.

    Args:
        pairs: where the samples lie.
        classes: names of the classes.
        table: what a label file's values mean, see :func:`label_table`.
        transform: applied to image and labels together; None keeps their size.

    Raises:
        FileNotFoundError: if a file is missing; names the first.
    """

    def __init__(
        self, pairs: Sequence[Pair], classes: Sequence[str], table: Labels, transform: Transform | None
    ) -> None:
        missing = [path for pair in pairs for path in (pair.image, pair.labels) if not path.is_file()]
        if missing:
            raise FileNotFoundError(
                f"{missing[0]} is missing ({len(missing)} of {2 * len(pairs)} files are); unpack the archives again"
            )
        self.pairs, self.classes = tuple(pairs), tuple(classes)
        self.names = tuple(pair.name for pair in pairs)
        self.table, self.transform = table, transform

    def __getitem__(self, index: int) -> SegmentationSample:
        self.check_index(index)
        pair = self.pairs[index]
        image, labels = read_image(pair.image, upright=False), self._labels(pair.labels)
        if image.size != labels.shape[::-1]:
            raise ValueError(_sizes_differ(pair, image.size, labels.shape[::-1]))
        if self.transform is not None:
            image, labels = self.transform(image, labels)
        return SegmentationSample(image_tensor(image), torch.from_numpy(labels.astype(np.int64)), pair.name)

    def check_files(self) -> None:
        """Read the headers of all files: cheap beside any explanation, and it names what is damaged.

        Raises:
            ValueError: for the first file that is no image, or a pair whose sizes differ.
        """
        for pair in self.pairs:
            image, labels = (open_image(path, whole=False).size for path in (pair.image, pair.labels))
            if image != labels:
                raise ValueError(_sizes_differ(pair, image, labels))

    def _labels(self, path: Path) -> Labels:
        image = open_image(path)
        if image.mode not in ("P", "L"):
            raise ValueError(
                f"{path} holds {image.mode} pixels where one class number a pixel is expected (modes P or L): it is a "
                "picture of the labels; take the original file of the archive"
            )
        values = np.asarray(image)
        labels = self.table[values]
        if (labels == _UNKNOWN).any():
            raise ValueError(
                f"{path} holds the label {values[labels == _UNKNOWN][0]}, which {type(self).__name__} does not define: "
                "the file is damaged, or belongs to another data set"
            )
        return labels


def label_table(meaning: Mapping[int, int]) -> Labels:
    """A table [256] from a file's values to classes; values that are not named in it are errors.

    Example:
        >>> label_table({0: 0, 255: 255})[[0, 255]].tolist()
        [0, 255]
    """
    table = np.full(256, _UNKNOWN, dtype=np.uint8)
    for value, label in meaning.items():
        table[value] = label
    return table


def require_folder(path: Path, what: str) -> Path:
    """The folder, if it is one.

    Raises:
        FileNotFoundError: says what was expected there.
    """
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is no folder; {what}")
    return path


def visible(folder: Path, pattern: str = "*") -> list[Path]:
    """What a folder holds, in order, without the hidden files and folders that notebooks and file managers leave."""
    found = sorted(folder.glob(pattern))
    return [path for path in found if not any(part[0] == "." for part in path.relative_to(folder).parts)]


def read_list(path: Path, what: str) -> list[str]:
    """The lines of a list of sample names, without empty ones.

    Raises:
        FileNotFoundError: if there is no such file; says what was expected.
        ValueError: if it is empty, names a sample twice, or is no text.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {what}")
    try:
        text = path.read_text(encoding="utf-8-sig")  # with a byte-order mark or without
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8; save it in UTF-8") from error
    lines: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        name = line.strip()
        if name in lines:
            raise ValueError(
                f"{path} names {name!r} in the lines {lines[name]} and {number}; a sample counts once: take one of "
                "them out"
            )
        if name:
            lines[name] = number
    if not lines:
        raise ValueError(f"{path} names no sample; {what}")
    return list(lines)


def _sizes_differ(pair: Pair, image: tuple[int, int], labels: tuple[int, int]) -> str:
    return (
        f"{pair.image} is {image[0]} x {image[1]} pixels, but {pair.labels} is {labels[0]} x {labels[1]}; the files do "
        "not belong together: unpack the archives again"
    )
