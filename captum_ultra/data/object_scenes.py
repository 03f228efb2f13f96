"""Scenes with one object, whose shape is the class, among blobs that mean nothing.

The object is one of six shapes and lies in front. All else is drawn before and without regard to the
class: the object's place, turn and area, the blobs behind it, and the colour, texture and shading of
every region. Exchange the shape and keep the random stream, and no pixel outside the two shapes changes.

Scene k of seed s is a pure function of (split, s, k), as in :mod:`captum_ultra.data.scenes`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from captum_ultra.data.painting import Floats, paint, pixel_grid
from captum_ultra.data.scenes import SHAPES, SPLITS
from captum_ultra.data.shapes import OUTLINES

__all__ = ["ObjectScene", "ObjectScenes", "render_object_scene"]

_AREA = (0.08, 0.16)  # of the object and of every blob, in units of the image's area
_MARGIN = 0.25  # of the object's centre to the border: at most the tips of a large shape are cut
BLOBS = (1, 3)
_SWING = (0.03, 0.12)  # of the textures: weaker than those of Scenes, so that a small model learns in minutes
_STREAM = 2  # not the streams of Scenes

# In units of the squared radius. Equal areas, so that the size does not tell the class.
_UNIT_AREA = {
    "disk": 0.81 * np.pi,
    "square": 1.96,
    "triangle": 0.75 * np.sqrt(3),
    "star": 2.5 * np.sin(np.pi / 5),
    "ring": np.pi * (0.9025 - 0.16),
    "cross": 4 * 0.68 * 0.94 - 0.68**2,
}


@dataclass(frozen=True)
class ObjectScene:
    """One image, its class, and where the evidence for the class is.

    Attributes:
        image: float32 [3, H, W], RGB in [0, 1].
        label: the class, ``SHAPES.index(name)``.
        mask: bool [H, W], the object's pixels; False everywhere where there is no object.
        name: the shape.
    """

    image: Tensor
    label: int
    mask: Tensor
    name: str


def render_object_scene(
    seed: int,
    index: int,
    size: int = 64,
    *,
    split: str = "held_out",
    blobs: tuple[int, int] = BLOBS,
    shape: str | None = None,
    present: bool = True,
) -> ObjectScene:
    """Render scene ``index`` of a seed.

    Args:
        seed: the stream of scenes, a non-negative integer.
        index: which scene of the stream, a non-negative integer.
        size: height and width in pixels.
        split: "train" or "held_out"; no scene of one is a scene of the other.
        blobs: fewest and most blobs.
        shape: another shape in place of the one drawn; all else stays as it is.
        present: False to leave the object out; what lies behind it shows, and all else stays as it is.

    Returns:
        An :class:`ObjectScene` of ``size`` x ``size`` pixels.

    Raises:
        ValueError: for a negative seed or index, an unknown split or shape, an impossible range, or a size too small.

    Example:
        >>> scene = render_object_scene(seed=0, index=3)
        >>> scene.image.shape, scene.mask.shape, SHAPES[scene.label] == scene.name
        (torch.Size([3, 64, 64]), torch.Size([64, 64]), True)
        >>> without = render_object_scene(seed=0, index=3, present=False)
        >>> torch.equal(scene.image[:, ~scene.mask], without.image[:, ~scene.mask])
        True
    """
    _check(seed, index, size, split, blobs, shape)
    rng = np.random.default_rng([SPLITS.index(split), seed, index, _STREAM])
    drawn = SHAPES[int(rng.integers(len(SHAPES)))]
    name = drawn if shape is None else shape
    x, y = pixel_grid(size)
    mask = _object(rng, x, y, name)
    instances, regions = _blobs(rng, x, y, blobs)
    if present:
        instances[mask] = 1
    image = paint(rng, x, y, instances, regions, _SWING)
    return ObjectScene(torch.from_numpy(image), SHAPES.index(name), torch.from_numpy(instances == 1), name)


class ObjectScenes(Dataset[ObjectScene]):
    """A stretch of a stream of scenes with one object each, rendered when asked for.

    Args:
        length: number of scenes.
        seed: the stream, as in :func:`render_object_scene`.
        size: height and width in pixels.
        split: "train" or "held_out".
        blobs: fewest and most blobs behind the object.

    Raises:
        ValueError: for a length below 1; IndexError for a scene beyond the length.

    Example:
        >>> scenes = ObjectScenes(2, seed=7)
        >>> len(scenes), torch.equal(scenes[1].image, ObjectScenes(5, seed=7)[1].image)
        (2, True)
    """

    def __init__(
        self, length: int, seed: int = 0, size: int = 64, *, split: str = "held_out", blobs: tuple[int, int] = BLOBS
    ) -> None:
        if length < 1:
            raise ValueError(f"length is {length}; ask for at least one scene")
        _check(seed, 0, size, split, blobs, None)
        self.length, self.seed, self.size, self.split, self.blobs = length, seed, size, split, blobs

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> ObjectScene:
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        return render_object_scene(self.seed, index, self.size, split=self.split, blobs=self.blobs)


def _object(rng: np.random.Generator, x: Floats, y: Floats, name: str) -> NDArray[np.bool_]:
    """The object's pixels [H, W]; centre, area and turn are drawn alike for every shape."""
    centre_x, centre_y = rng.uniform(_MARGIN, 1 - _MARGIN, 2)
    r = np.sqrt(rng.uniform(*_AREA) / _UNIT_AREA[name])
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.float32(np.cos(turn) / r), np.float32(np.sin(turn) / r)
    dx, dy = x - np.float32(centre_x), y - np.float32(centre_y)
    return OUTLINES[name](cos * dx + sin * dy, cos * dy - sin * dx)


def _blobs(rng: np.random.Generator, x: Floats, y: Floats, blobs: tuple[int, int]) -> tuple[NDArray[np.int64], int]:
    """Regions [H, W], 0 for the background and 2, 3, ... for the blobs; how many there are, the object's included."""
    instances = np.zeros((y.size, x.size), dtype=np.int64)
    count = int(rng.integers(blobs[0], blobs[1] + 1))
    for region in range(2, count + 2):
        centre_x, centre_y = rng.uniform(0.1, 0.9, 2)
        inside = _blob(rng, x - np.float32(centre_x), y - np.float32(centre_y))
        instances[inside & (instances == 0)] = region
    return instances, count + 2


def _blob(rng: np.random.Generator, dx: Floats, dy: Floats) -> NDArray[np.bool_]:
    """The pixels [H, W] of a blob about the origin: a radius of three random Fourier waves, areas as objects have."""
    wave = rng.standard_normal((2, 3))
    # A floor under the amplitude: a blob that is nearly a disk would belong to a class.
    wave *= rng.uniform(0.22, 0.32) / np.linalg.norm(wave) * np.sqrt(2)
    around = np.linspace(0, 2 * np.pi, 128, endpoint=False)
    area = np.pi * (_radius(wave, around) ** 2).mean()
    scale = np.sqrt(rng.uniform(*_AREA) / area)
    return np.hypot(dx, dy) <= scale * _radius(wave, np.arctan2(dy, dx))


def _radius(wave: NDArray[np.float64], angle: NDArray[np.floating]) -> NDArray[np.float64]:
    """Radius at every angle, about 1: waves [2, K] hold the cosine and sine weights of 1 to K turns."""
    total = np.ones(angle.shape)
    for k, (cosine, sine) in enumerate(wave.T, start=1):
        total += cosine * np.cos(k * angle) + sine * np.sin(k * angle)
    return np.maximum(total, 0.1)


def _check(seed: int, index: int, size: int, split: str, blobs: tuple[int, int], shape: str | None) -> None:
    if seed < 0 or index < 0:
        raise ValueError(f"seed {seed} and index {index} must not be negative")
    if size < 16:
        raise ValueError(f"size is {size}; objects need an image of at least 16 x 16 pixels")
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(map(repr, SPLITS))}")
    if not 0 <= blobs[0] <= blobs[1]:
        raise ValueError(f"blobs is {blobs}; give the fewest and the most, at least 0")
    if shape is not None and shape not in SHAPES:
        raise ValueError(f"shape is {shape!r}; it must be one of {', '.join(map(repr, SHAPES))}")
