"""Procedural scenes with exact masks: textured, shaded, overlapping objects on a textured background.

The class of an object is its shape and nothing else. The background and all objects take their
colours, textures and shading from the same distribution, in exchangeable order, so neither colour
nor texture tells an object from the background or one class from another.

Scene k of seed s is a pure function of (split, s, k): always the same, in any order, on any process.
The training split and the held-out split are different random streams whatever the seeds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from captum_ultra.data.painting import Floats, paint, pixel_grid
from captum_ultra.data.shapes import OUTLINES

__all__ = ["SHAPES", "SPLITS", "Scene", "Scenes", "render_scene"]

SHAPES: tuple[str, ...] = tuple(OUTLINES)
SPLITS: tuple[str, ...] = ("train", "held_out")

_PLACEMENTS = 12  # tried at most; an object that would be mostly hidden is not placed
_VISIBLE = 0.6  # of an object's area, at least


@dataclass(frozen=True)
class Scene:
    """One image and its exact masks.

    Attributes:
        image: float32 [3, H, W], RGB in [0, 1].
        labels: int64 [H, W], 0 for the background, ``1 + SHAPES.index(name)`` for an object.
        instances: int64 [H, W], 0 for the background, k for the object ``names[k - 1]``; nearer
            objects have smaller numbers.
        names: the shapes of the objects.
    """

    image: Tensor
    labels: Tensor
    instances: Tensor
    names: tuple[str, ...]


def render_scene(
    seed: int,
    index: int,
    size: int = 64,
    *,
    split: str = "held_out",
    objects: tuple[int, int] = (3, 5),
    radius: tuple[float, float] = (0.17, 0.27),
) -> Scene:
    """Render scene ``index`` of a seed.

    Args:
        seed: the stream of scenes, a non-negative integer.
        index: which scene of the stream, a non-negative integer.
        size: height and width in pixels.
        split: "train" or "held_out"; no scene of one is a scene of the other.
        objects: fewest and most objects (one that finds no free place is left out).
        radius: smallest and largest radius of an object, in units of the image's size.

    Returns:
        A :class:`Scene` of ``size`` x ``size`` pixels.

    Raises:
        ValueError: for a negative seed or index, an unknown split, or impossible ranges.

    Example:
        >>> scene = render_scene(seed=0, index=3)
        >>> scene.image.shape, scene.labels.shape
        (torch.Size([3, 64, 64]), torch.Size([64, 64]))
        >>> int(scene.instances.max()) == len(scene.names)
        True
    """
    _check(seed, index, size, split, objects, radius)
    rng = np.random.default_rng([SPLITS.index(split), seed, index])
    x, y = pixel_grid(size)
    instances, shapes = _place(rng, x, y, objects, radius)
    image = paint(rng, x, y, instances, len(shapes) + 1)
    labels = np.array([0, *(1 + shape for shape in shapes)])[instances]
    return Scene(
        torch.from_numpy(image),
        torch.from_numpy(labels),
        torch.from_numpy(instances),
        tuple(SHAPES[shape] for shape in shapes),
    )


class Scenes(Dataset[Scene]):
    """A stretch of a stream of scenes, rendered when asked for.

    Args:
        length: number of scenes.
        seed: the stream, as in :func:`render_scene`.
        size: height and width in pixels.
        noise: standard deviation, in units of the [0, 1] pixel range, of Gaussian noise added to the
            images (which then leave that range); the noise of a scene is seeded like the scene.
        split: "train" or "held_out".

    Example:
        >>> scenes = Scenes(2, seed=7, noise=0.1)
        >>> len(scenes), torch.equal(scenes[1].image, Scenes(5, seed=7, noise=0.1)[1].image)
        (2, True)
    """

    def __init__(
        self, length: int, seed: int = 0, size: int = 64, noise: float = 0.0, *, split: str = "held_out"
    ) -> None:
        if length < 1:
            raise ValueError(f"length is {length}; ask for at least one scene")
        if noise < 0:
            raise ValueError(f"noise is {noise}; a standard deviation is not negative")
        self.length, self.seed, self.size, self.noise, self.split = length, seed, size, noise, split

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Scene:
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        scene = render_scene(self.seed, index, self.size, split=self.split)
        if self.noise == 0:
            return scene
        rng = np.random.default_rng([SPLITS.index(self.split), self.seed, index, 1])
        noise = torch.from_numpy(rng.standard_normal(scene.image.shape, dtype=np.float32))
        return Scene(scene.image + self.noise * noise, scene.labels, scene.instances, scene.names)


def _place(
    rng: np.random.Generator, x: Floats, y: Floats, objects: tuple[int, int], radius: tuple[float, float]
) -> tuple[NDArray[np.int64], list[int]]:
    """Place objects front to back: instances [H, W] and the shape number of every object."""
    instances = np.zeros((y.size, x.size), dtype=np.int64)
    shapes: list[int] = []
    wanted = int(rng.integers(objects[0], objects[1] + 1))
    for _ in range(_PLACEMENTS):
        shape = int(rng.integers(len(SHAPES)))
        r = rng.uniform(*radius)
        centre_x, centre_y = rng.uniform(0.6 * r, 1 - 0.6 * r, 2)
        turn = rng.uniform(0, 2 * np.pi)
        cos, sin = np.float32(np.cos(turn) / r), np.float32(np.sin(turn) / r)
        dx, dy = x - np.float32(centre_x), y - np.float32(centre_y)
        whole = OUTLINES[SHAPES[shape]](cos * dx + sin * dy, cos * dy - sin * dx)
        visible = whole & (instances == 0)
        if visible.sum() >= _VISIBLE * whole.sum():
            shapes.append(shape)
            instances[visible] = len(shapes)
            if len(shapes) == wanted:
                break
    return instances, shapes


def _check(seed: int, index: int, size: int, split: str, objects: tuple[int, int], radius: tuple[float, float]) -> None:
    if seed < 0 or index < 0:
        raise ValueError(f"seed {seed} and index {index} must not be negative")
    if size < 16:
        raise ValueError(f"size is {size}; objects need an image of at least 16 x 16 pixels")
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(map(repr, SPLITS))}")
    if not 1 <= objects[0] <= objects[1]:
        raise ValueError(f"objects is {objects}; give the fewest and the most, at least 1")
    if not 0 < radius[0] <= radius[1] <= 0.5:
        raise ValueError(f"radius is {radius}; give the smallest and the largest, in (0, 0.5] of the image size")
