"""Painting regions of an image: colour, texture and shading, in exchangeable order.

Every region takes its look from one distribution, whatever its place in the order, so that a look says
nothing about what the region is. The look also says nothing about the outline: the same random stream paints
a region in the same way whatever its shape.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["paint", "pixel_grid", "shading", "texture"]

_CONTRAST = 0.25  # between the mean colours of two regions

Floats = NDArray[np.float32]


def pixel_grid(size: int) -> tuple[Floats, Floats]:
    """x [1, W] and y [H, 1] of the pixel centres, in [0, 1]."""
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    return centres[None, :], centres[:, None]


def paint(
    rng: np.random.Generator,
    x: Floats,
    y: Floats,
    instances: NDArray[np.int64],
    regions: int,
) -> Floats:
    """The image [3, H, W]: every region is a colour, plus a two-wave texture, times a linear shading.

    Args:
        rng: where the looks come from; what is drawn from it depends on ``regions`` and the size alone.
        x: the columns' places [1, W].
        y: the rows' places [H, 1].
        instances: the number of every pixel's region [H, W].
        regions: how many regions there are, those without a pixel included.

    Returns:
        float32 [3, H, W], RGB in [0, 1].

    Example:
        >>> x, y = pixel_grid(4)
        >>> paint(np.random.default_rng(0), x, y, np.zeros((4, 4), np.int64), 1).shape
        (3, 4, 4)
    """
    colours = _palette(rng, regions)
    pattern, light = texture(rng, x, y, instances, regions), shading(rng, x, y, instances, regions)
    tint = rng.standard_normal((regions, 3))
    tint *= rng.uniform(0.2, 0.4, (regions, 1)) / np.linalg.norm(tint, axis=1, keepdims=True)
    picture = (colours[instances] + tint[instances] * pattern[..., None]) * light[..., None]
    picture += 0.02 * rng.standard_normal(picture.shape)
    return np.ascontiguousarray(picture.clip(0, 1).transpose(2, 0, 1), dtype=np.float32)


def _palette(rng: np.random.Generator, regions: int) -> NDArray[np.float64]:
    """Colours [regions, 3], any two at least _CONTRAST apart; the order is random, so none is special."""
    colours = rng.uniform(0.15, 0.85, (1, 3))
    while len(colours) < regions:
        candidate = rng.uniform(0.15, 0.85, (1, 3))
        if np.linalg.norm(colours - candidate, axis=1).min() > _CONTRAST:
            colours = np.concatenate([colours, candidate])
    return rng.permutation(colours)


def texture(
    rng: np.random.Generator, x: Floats, y: Floats, instances: NDArray[np.int64], regions: int,
    waves: tuple[float, float] = (4, 9), sharpest: float = 3,
) -> NDArray[np.float64]:  # fmt: skip
    """Values [H, W] in [-1, 1]: stripes, checks or blobs, by the angle and weight of a second wave.

    Args:
        rng: where the looks come from.
        x: the columns' places [1, W].
        y: the rows' places [H, 1].
        instances: the number of every pixel's region [H, W].
        regions: how many regions there are.
        waves: fewest and most of them across the image.
        sharpest: how sharp the edges of a stripe are at most; at least 0.5.
    """
    angle = rng.uniform(0, np.pi, (2, regions))
    frequency = 2 * np.pi * rng.uniform(*waves, (2, regions))
    phase = rng.uniform(0, 2 * np.pi, (2, regions))
    weight = np.stack([np.ones(regions), rng.integers(0, 2, regions)])
    sharpness = rng.uniform(0.5, sharpest, regions)
    kx, ky = frequency * np.cos(angle), frequency * np.sin(angle)
    both = weight[:, instances] * np.sin(kx[:, instances] * x + ky[:, instances] * y + phase[:, instances])
    return np.tanh(sharpness[instances] * both.sum(axis=0))


def shading(
    rng: np.random.Generator, x: Floats, y: Floats, instances: NDArray[np.int64], regions: int
) -> NDArray[np.float64]:
    """Factors [H, W] about 1: light that falls off linearly, its direction drawn for every region."""
    angle, strength = rng.uniform(0, 2 * np.pi, regions), rng.uniform(0, 0.8, regions)
    gx, gy = strength * np.cos(angle), strength * np.sin(angle)
    return 1 + gx[instances] * (x - 0.5) + gy[instances] * (y - 0.5)
