"""Colours of labels, told apart by colour-blind readers too."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["MOST_LABELS", "VOID", "label_colors", "overlay", "paint"]

MOST_LABELS = 256  # what an image of a palette can hold
VOID = (255, 255, 255)

# Okabe and Ito (2008), "Color universal design", without black: the eight that stay apart under the
# common kinds of colour blindness (black is replaced by a dark grey, which has shades).
_BASE = (
    (0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167),
    (86, 180, 233), (213, 94, 0), (240, 228, 66), (70, 70, 70),
)  # fmt: skip
_SHARE = 0.6  # of a label's colour where it lies over a picture


def label_colors(count: int) -> NDArray[np.uint8]:
    """RGB [count, 3] of labels 0, 1, ...; the first eight are distinct under colour blindness.

    Then come the same eight lightened and darkened; after 24 colours they begin anew.

    Example:
        >>> label_colors(2).tolist()
        [[0, 114, 178], [230, 159, 0]]
    """
    base = np.array(_BASE, dtype=np.float64)
    shades = np.concatenate([base, 0.5 * base + 127.5, 0.5 * base])
    return np.resize(shades.round().astype(np.uint8), (count, 3))


def paint(labels: ArrayLike, void: int | None = None) -> NDArray[np.uint8]:
    """Labels [H, W] as RGB [H, W, 3]; those that equal ``void`` in white.

    Raises:
        ValueError: for labels that are no non-negative integers [H, W].
    """
    values = np.asarray(labels)
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "iu" or values.min() < 0:
        raise ValueError(f"labels of shape {values.shape}, {values.dtype} must be non-negative integers [H, W]")
    colors = label_colors(int(values.max()) + 1)[values]
    if void is not None:
        colors[values == void] = VOID
    return colors


def overlay(picture: ArrayLike, labels: ArrayLike) -> NDArray[np.uint8]:
    """Labels [H, W] in colour over a picture [H, W, 3] of values in 0..1 in grey, borders in white."""
    image, colors = np.asarray(picture, dtype=np.float64), paint(labels)
    if image.shape != colors.shape:
        raise ValueError(f"picture of shape {image.shape} does not fit labels of shape {colors.shape[:2]}")
    grey = 255 * (image @ np.array([0.299, 0.587, 0.114]))[..., None]
    mixed = _SHARE * colors + (1 - _SHARE) * grey
    mixed[_borders(np.asarray(labels))] = 255
    return mixed.round().astype(np.uint8)


def _borders(labels: NDArray[np.integer]) -> NDArray[np.bool_]:
    """The pixels [H, W] whose right or lower neighbour has another label."""
    found = np.zeros(labels.shape, dtype=bool)
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    found[:-1] |= labels[:-1] != labels[1:]
    return found
