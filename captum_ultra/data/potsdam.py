"""ISPRS Potsdam with its six classes merged into three."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from captum_ultra.data.label_files import require_folder
from captum_ultra.data.samples import IGNORE, SegmentationDataset, SegmentationSample
from captum_ultra.data.transforms import Labels, Transform, image_tensor
from captum_ultra.io import open_image, read_image

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["POTSDAM3_CLASSES", "POTSDAM_CLASSES", "PotsdamSegmentation", "merge_classes"]

POTSDAM_CLASSES = ("impervious surface", "building", "low vegetation", "tree", "car", "clutter")
POTSDAM3_CLASSES = ("road and car", "building and clutter", "vegetation and tree")
_MERGED = np.array([0, 1, 2, 2, 0, 1], dtype=np.uint8)
_COLOURS = ((255, 255, 255), (0, 0, 255), (0, 255, 255), (0, 255, 0), (255, 255, 0), (255, 0, 0))
_ORTHO = {"2_Ortho_RGB": "_RGB.tif", "4_Ortho_RGBIR": "_RGBIR.tif"}
_LABELS = ("5_Labels_for_participants", "5_Labels_all")
_HINT = "unpack 2_Ortho_RGB.zip (or 4_Ortho_RGBIR.zip) and 5_Labels_for_participants.zip of the ISPRS Potsdam archive"


class PotsdamSegmentation(SegmentationDataset):
    """Potsdam-3: aerial images in crops of 200 x 200 pixels at half resolution, 225 of every tile.

    The layout is that of the official archives, tiles of 6000 x 6000 pixels::

        2_Ortho_RGB/top_potsdam_2_10_RGB.tif             (or 4_Ortho_RGBIR/top_potsdam_2_10_RGBIR.tif)
        5_Labels_for_participants/top_potsdam_2_10_label.tif

    A tile is halved (the mean of 2 x 2 pixels, labels by their first pixel) and cut into squares of 200, as
    IIC prepares it; infrared is left out. The 24 tiles with labels give 5,400 crops. IIC drew 855 of them at
    random, without a seed, as its test set, so that set cannot be made again from the archive: with its files at
    hand read them by :class:`captum_ultra.data.potsdam_prepared.PreparedPotsdam`, else report that all
    labelled crops were taken.

    Args:
        root: the folder that holds the folders of the archive.
        transform: applied to image and labels together, e.g. ``ResizeCrop(320)``.
        merged: three classes; False for the original six.
        crop: side of a crop in pixels at half resolution.
        unknown: pixels of a label tile in none of the six colours: "raise", or "ignore" them (label 255).

    Raises:
        ValueError: for an unknown option.
        FileNotFoundError: for a folder or a tile that is missing.

    Source:
        ISPRS 2D Semantic Labeling Contest, Potsdam; Ji et al. (IIC, ICCV 2019), section 4.2.
    """

    def __init__(
        self, root: str | Path, transform: Transform | None = None, *, merged: bool = True, crop: int = 200,
        unknown: str = "raise",
    ) -> None:  # fmt: skip
        if unknown not in ("raise", "ignore"):
            raise ValueError(f"unknown={unknown!r}: it must be 'raise' or 'ignore'")
        if crop < 1:
            raise ValueError(f"crop is {crop}; a crop has at least 1 pixel a side")
        self.transform, self.merged, self.crop, self.unknown = transform, merged, crop, unknown
        self.classes = POTSDAM3_CLASSES if merged else POTSDAM_CLASSES
        self._tiles = _labelled_tiles(Path(root))
        self._places = [
            (tile, row, column)
            for tile, (_, labels) in enumerate(self._tiles)
            for row in range(self._side(labels)[0])
            for column in range(self._side(labels)[1])
        ]
        self.names = tuple(f"{_tile_name(self._tiles[t][1])}_{row}_{column}" for t, row, column in self._places)
        self._open: tuple[int, Image, Labels] | None = None

    def __getitem__(self, index: int) -> SegmentationSample:
        self.check_index(index)
        tile, row, column = self._places[index]
        image, labels = self._tile(tile)
        top, left = row * self.crop, column * self.crop
        image = image.crop((left, top, left + self.crop, top + self.crop))
        labels = labels[top : top + self.crop, left : left + self.crop]
        if self.transform is not None:
            image, labels = self.transform(image, labels)
        return SegmentationSample(image_tensor(image), torch.from_numpy(labels.astype(np.int64)), self.names[index])

    def _tile(self, number: int) -> tuple[Image, Labels]:
        """Image and labels at half resolution; crops come in order, so one tile is kept."""
        if self._open is None or self._open[0] != number:
            image_path, labels_path = self._tiles[number]
            image, colours = open_image(image_path), read_image(labels_path)
            if image.size != colours.size:
                raise ValueError(f"{image_path} is {image.size} pixels, but {labels_path} is {colours.size}")
            labels = _classes_of(np.asarray(colours)[::2, ::2], labels_path, self.unknown)
            self._open = number, _without_infrared(image).reduce(2), merge_classes(labels) if self.merged else labels
        return self._open[1:]

    def _side(self, labels: Path) -> tuple[int, int]:
        """Rows and columns of crops in a tile, from the header of its label file."""
        width, height = open_image(labels, whole=False).size
        return height // 2 // self.crop, width // 2 // self.crop


def merge_classes(labels: Labels) -> Labels:
    """Six classes to three, as IIC and STEGO merge them; 255 stays.

    Example:
        >>> merge_classes(np.array([0, 1, 2, 3, 4, 5, 255], dtype=np.uint8)).tolist()
        [0, 1, 2, 2, 0, 1, 255]
    """
    return np.where(labels == IGNORE, labels, _MERGED[np.minimum(labels, len(_MERGED) - 1)])


def _classes_of(colours: Labels, path: Path, unknown: str) -> Labels:
    """RGB colours [H, W, 3] -> class numbers [H, W]."""
    labels = np.full(colours.shape[:2], IGNORE, dtype=np.uint8)
    for number, colour in enumerate(_COLOURS):
        labels[(colours == np.array(colour, dtype=np.uint8)).all(-1)] = number
    strange = labels == IGNORE
    if unknown == "raise" and strange.any():
        raise ValueError(
            f"{path}: {int(strange.sum())} of {strange.size} pixels have a colour that is no class, the first is "
            f"{tuple(colours[strange][0].tolist())}; take the original file, or pass unknown='ignore' to leave them out"
        )
    return labels


def _labelled_tiles(root: Path) -> list[tuple[Path, Path]]:
    """Pairs of image and label file, one a tile, in the order of their names' numbers."""
    require_folder(root, _HINT)
    folder = next((root / name for name in _LABELS if (root / name).is_dir()), None)
    ortho = next((root / name for name in _ORTHO if (root / name).is_dir()), None)
    if folder is None or ortho is None:
        raise FileNotFoundError(f"{root} lacks {' or '.join(_LABELS if folder is None else _ORTHO)}; {_HINT}")
    found = sorted(
        folder.glob("top_potsdam_*_label.tif"), key=lambda path: [int(n) for n in re.findall(r"\d+", path.stem)]
    )
    if not found:
        raise FileNotFoundError(f"{folder} holds no top_potsdam_*_label.tif; {_HINT}")
    tiles = [(ortho / f"{_tile_name(path)}{_ORTHO[ortho.name]}", path) for path in found]
    missing = [image for image, _ in tiles if not image.is_file()]
    if missing:
        raise FileNotFoundError(f"{missing[0]} is missing ({len(missing)} of {len(tiles)} tiles); {_HINT}")
    return tiles


def _without_infrared(image: Image) -> Image:
    """The first three of four channels; PIL takes the fourth, infrared, for opacity or black ink."""
    from PIL import Image as pil

    return pil.merge("RGB", image.split()[:3])


def _numbers(path: Path) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", path.stem)]


def _tile_name(labels: Path) -> str:
    return labels.name.removesuffix("_label.tif")
