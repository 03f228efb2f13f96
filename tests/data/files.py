"""Writes tiny image and label files for the readers' tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, height: int = 6, width: int = 8, seed: int = 0) -> np.ndarray:
    """A random RGB image; the pixels [H, W, 3] as a lossless file would give them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return pixels


def write_labels(path: Path, labels: np.ndarray, palette: bool = False) -> None:
    """Class numbers [H, W], one byte a pixel, with or without a palette."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(labels.astype(np.uint8))
    if palette:
        image.putpalette([value for number in range(256) for value in (number, 255 - number, 7)])
    image.save(path)
