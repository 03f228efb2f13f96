"""The outlines of the scenes' objects: which points of the plane belong to a shape.

Every shape is a function of two coordinate arrays in units of the object's radius, and fits into
the unit disk, so that one radius bounds the object whatever its shape and rotation.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["OUTLINES", "Outline"]

Coordinates = NDArray[np.float32]
Mask = NDArray[np.bool_]
Outline = Callable[[Coordinates, Coordinates], Mask]


def disk(u: Coordinates, v: Coordinates) -> Mask:
    return u * u + v * v <= 0.81


def square(u: Coordinates, v: Coordinates) -> Mask:
    return np.maximum(np.abs(u), np.abs(v)) <= 0.7


def triangle(u: Coordinates, v: Coordinates) -> Mask:
    slanted = 0.5 * v + np.float32(np.sqrt(0.75)) * np.abs(u)
    return np.maximum(slanted, -v) <= 0.5


def star(u: Coordinates, v: Coordinates) -> Mask:
    """Five arms: the unit circle's points, and notches halfway between them at radius 0.5."""
    arm = np.float32(2 * np.pi / 5)
    angle = np.abs((np.arctan2(u, v) + arm / 2) % arm - arm / 2)
    radius = np.sqrt(u * u + v * v)
    x, y = radius * np.cos(angle), radius * np.sin(angle)
    notch_x, notch_y = 0.5 * np.cos(arm / 2), 0.5 * np.sin(arm / 2)
    return notch_y * x + (1 - notch_x) * y <= notch_y


def ring(u: Coordinates, v: Coordinates) -> Mask:
    squared = u * u + v * v
    return (squared <= 0.9025) & (squared >= 0.16)


def cross(u: Coordinates, v: Coordinates) -> Mask:
    u, v = np.abs(u), np.abs(v)
    return (np.minimum(u, v) <= 0.34) & (np.maximum(u, v) <= 0.94)


OUTLINES: dict[str, Outline] = {
    "disk": disk,
    "square": square,
    "triangle": triangle,
    "star": star,
    "ring": ring,
    "cross": cross,
}
