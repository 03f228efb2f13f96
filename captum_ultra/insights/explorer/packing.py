"""Arrays of numbers as one compressed text that a page can carry."""

from __future__ import annotations

import zlib
from base64 import b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["LEVELS", "Blob", "dequantised", "is_signed", "quantised"]

# How finely values can be stored: the finest that keeps a page small is taken. Two bytes a value are for texts, whose
# pieces add up many of them and compare them between rows; no eye sees the difference in a map of an image.
LEVELS = {"image": (255, 127, 63, 31), "text": (65535, 255, 127, 63, 31)}


class Blob:
    """Byte strings one behind the other, and where each of them stands.

    Example:
        >>> blob = Blob()
        >>> blob.add(np.zeros(3, dtype=np.uint8)), blob.add(np.zeros(2, dtype=np.float32))
        ([0, 3], [3, 8])
    """

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def add(self, values: NDArray[Any]) -> list[int]:
        """Append an array, little-endian; its place as (first byte, number of bytes)."""
        data = values.astype(values.dtype.newbyteorder("<"), copy=False).tobytes()
        self._parts.append(data)
        self._length += len(data)
        return [self._length - len(data), len(data)]

    def packed(self) -> str:
        """Everything in zlib's format, in base64."""
        return b64encode(zlib.compress(b"".join(self._parts), 6)).decode("ascii")


def is_signed(rows: NDArray[Any]) -> bool:
    """Whether negative values [..., M] mean something: more than rounding beside the positive ones.

    Example:
        >>> is_signed(np.array([-1e-9, 1.0])), is_signed(np.array([-0.2, 1.0]))
        (False, True)
    """
    return bool(rows.min(initial=0.0) < -1e-6 * np.abs(rows).max(initial=0.0))


def quantised(
    rows: NDArray[Any], levels: int, signed: bool
) -> tuple[NDArray[np.uint8 | np.uint16], NDArray[np.float32]]:
    """Rows [T, M] as steps [T, M], and the scale [T] of every row: its largest absolute value.

    A step is ``levels * value / scale``, rounded. Signed rows have half of the levels on each side of the middle one.

    Args:
        rows: finite values [T, M].
        levels: steps from 0 to the scale, or, of signed rows, from one end to the other; above 255 a
            step takes two bytes.
        signed: whether the rows have negative values; otherwise those count as 0.

    Example:
        >>> quantised(np.array([[0.0, 2.0, 4.0]]), levels=255, signed=False)[0].tolist()
        [[0, 128, 255]]
    """
    scales = np.abs(rows).max(axis=1, initial=0.0).astype(np.float32)
    shares = rows / np.where(scales > 0, scales, 1)[:, None].astype(np.float64)
    half = levels // 2
    steps = half + half * shares if signed else levels * shares
    return np.rint(steps).clip(0, levels).astype(np.uint16 if levels > 255 else np.uint8), scales


def dequantised(
    steps: NDArray[np.uint8 | np.uint16], scales: NDArray[np.float32], levels: int, signed: bool
) -> NDArray[np.float64]:
    """What the page reads: values [T, M] of what :func:`quantised` made.

    Example:
        >>> steps, scales = quantised(np.array([[-1.0, 0.0, 4.0]]), levels=255, signed=True)
        >>> dequantised(steps, scales, levels=255, signed=True).round(1).tolist()
        [[-1.0, 0.0, 4.0]]
    """
    shares = steps.astype(np.float64)
    shares = shares / (levels // 2) - 1 if signed else shares / levels
    return shares * scales.astype(np.float64)[:, None]
