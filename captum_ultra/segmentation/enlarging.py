"""Enlarging maps to the image, and the distances of enlarged maps without making them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["INTERPOLATION", "enlarge", "isometric"]

INTERPOLATION = ("bilinear", "bicubic", "nearest")


def enlarge(maps: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """Maps [T, h, w] -> [T, H, W]; those that have the size already come back as they are."""
    if tuple(maps.shape[-2:]) == size:
        return maps
    corners = None if interpolation == "nearest" else False
    return F.interpolate(maps[None], size=size, mode=interpolation, align_corners=corners)[0]


def isometric(maps: Tensor, size: tuple[int, int], interpolation: str) -> Tensor:
    """Maps [T, h', w'], as small as the given [T, h, w], with the inner products of the enlarged ones.

    Enlarging is linear and acts on rows and columns apart, M -> U M V^T. With U = Q R and V = P S, the
    columns of Q and P being orthonormal, inner products of the U M V^T are those of the R M S^T.
    """
    if tuple(maps.shape[-2:]) == size:
        return maps
    rows, columns = (
        torch.linalg.qr(_matrix(old, new, interpolation).to(maps), mode="r").R
        for old, new in zip(maps.shape[-2:], size, strict=True)
    )
    return rows @ maps @ columns.T


def _matrix(old: int, new: int, interpolation: str) -> Tensor:
    """The matrix [new, old] of the enlargement of a line, read off its action on unit vectors."""
    return enlarge(torch.eye(old, dtype=torch.float64)[None], (new, old), interpolation)[0]
