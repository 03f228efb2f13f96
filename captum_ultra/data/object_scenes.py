"""Scenes with one object, whose class is the pair of colours woven together in it, among things of one colour each.

Every region of a scene is woven of two colours, in stripes or checks. The object is woven of two of four
hues, and which two is its class. Everything else, the background and the distractors, is woven of one hue and a
grey. Any hue may occur anywhere, outlines and sizes of objects and distractors are drawn alike, so that only
the meeting of two hues tells the class, and it happens in the object alone, all over it. Exchange the class
and keep the random stream, and no pixel outside the object changes.

Scene k of seed s is a pure function of (split, s, k), as in :mod:`captum_ultra.data.scenes`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from captum_ultra.data.painting import Floats, pixel_grid, shading, texture
from captum_ultra.data.scenes import SHAPES, SPLITS
from captum_ultra.data.shapes import OUTLINES

__all__ = ["WEAVES", "ObjectScene", "ObjectScenes", "render_object_scene"]

_HUES: dict[str, tuple[float, float, float]] = {
    "red": (0.85, 0.18, 0.18),
    "green": (0.15, 0.70, 0.25),
    "blue": (0.20, 0.30, 0.90),
    "yellow": (0.92, 0.82, 0.15),
}
WEAVES: tuple[str, ...] = tuple(f"{one}-{other}" for one, other in combinations(_HUES, 2))
"""The classes: every pair of two hues."""

_JITTER = 0.08  # of a hue, for every region anew
_WAVES = (7, 12)  # across the image: a stripe is wider than a pixel and about as wide as a patch of four
_SHARPEST = 4
_AREA = (0.08, 0.18)  # of the object and of every distractor, in units of the image's area
_MARGIN = 0.25  # of the object's centre to the border
_DISTRACTORS = (1, 3)
_STREAM = 3  # not the streams of Scenes


@dataclass(frozen=True)
class ObjectScene:
    """One image, its class, and where the evidence for the class is.

    Attributes:
        image: float32 [3, H, W], RGB in [0, 1].
        label: the class, ``WEAVES.index(name)``.
        mask: bool [H, W], the object's pixels; False everywhere where there is no object.
        name: the two hues.
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
    distractors: tuple[int, int] = _DISTRACTORS,
    weave: str | None = None,
    present: bool = True,
) -> ObjectScene:
    """Render scene ``index`` of a seed.

    Args:
        seed: the stream of scenes, a non-negative integer.
        index: which scene of the stream, a non-negative integer.
        size: height and width in pixels.
        split: "train" or "held_out"; no scene of one is a scene of the other.
        distractors: fewest and most distractors.
        weave: another class in place of the one drawn; all else stays as it is.
        present: False to leave the object out; what lies behind it shows, and all else stays as it is.

    Returns:
        An :class:`ObjectScene` of ``size`` x ``size`` pixels.

    Raises:
        ValueError: for a negative seed or index, an unknown split or class, an impossible range, or a size too small.

    Example:
        >>> scene = render_object_scene(seed=0, index=3)
        >>> scene.image.shape, scene.mask.shape, WEAVES[scene.label] == scene.name
        (torch.Size([3, 64, 64]), torch.Size([64, 64]), True)
        >>> without = render_object_scene(seed=0, index=3, present=False)
        >>> torch.equal(scene.image[:, ~scene.mask], without.image[:, ~scene.mask])
        True
    """
    _check(seed, index, size, split, distractors, weave)
    rng = np.random.default_rng([SPLITS.index(split), seed, index, _STREAM])
    drawn = WEAVES[int(rng.integers(len(WEAVES)))]
    name = drawn if weave is None else weave
    x, y = pixel_grid(size)
    mask = _thing(rng, x, y, _MARGIN)
    instances, regions = _things_behind(rng, x, y, distractors)
    if present:
        instances[mask] = 1
    image = _weave(rng, x, y, instances, regions, name)
    return ObjectScene(torch.from_numpy(image), WEAVES.index(name), torch.from_numpy(instances == 1), name)


class ObjectScenes(Dataset[ObjectScene]):
    """A stretch of a stream of scenes with one object each, rendered when asked for.

    Args:
        length: number of scenes.
        seed: the stream, as in :func:`render_object_scene`.
        size: height and width in pixels.
        split: "train" or "held_out".

    Attributes:
        classes: their names, by number.

    Raises:
        ValueError: for a length below 1; IndexError for a scene beyond the length.

    Example:
        >>> scenes = ObjectScenes(2, seed=7)
        >>> len(scenes), torch.equal(scenes[1].image, ObjectScenes(5, seed=7)[1].image)
        (2, True)
    """

    classes = WEAVES

    def __init__(self, length: int, seed: int = 0, size: int = 64, *, split: str = "held_out") -> None:
        if length < 1:
            raise ValueError(f"length is {length}; ask for at least one scene")
        _check(seed, 0, size, split, _DISTRACTORS, None)
        self.length, self.seed, self.size, self.split = length, seed, size, split

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> ObjectScene:
        if not 0 <= index < self.length:
            raise IndexError(f"scene {index} of {self.length}")
        return render_object_scene(self.seed, index, self.size, split=self.split)


def _things_behind(
    rng: np.random.Generator, x: Floats, y: Floats, distractors: tuple[int, int]
) -> tuple[NDArray[np.int64], int]:
    """Regions [H, W], 0 the background and 2, 3, ... the distractors; how many there are, the object's included."""
    instances = np.zeros((y.size, x.size), dtype=np.int64)
    count = int(rng.integers(distractors[0], distractors[1] + 1))
    for region in range(2, count + 2):
        inside = _thing(rng, x, y, margin=0.1)
        instances[inside & (instances == 0)] = region
    return instances, count + 2


def _thing(rng: np.random.Generator, x: Floats, y: Floats, margin: float) -> NDArray[np.bool_]:
    """The pixels [H, W] of an object or a distractor: one of the shapes, or as likely a blob."""
    centre_x, centre_y = rng.uniform(margin, 1 - margin, 2)
    radius = np.sqrt(rng.uniform(*_AREA) / np.pi)
    turn = rng.uniform(0, 2 * np.pi)
    cos, sin = np.float32(np.cos(turn) / radius), np.float32(np.sin(turn) / radius)
    dx, dy = x - np.float32(centre_x), y - np.float32(centre_y)
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    shape = int(rng.integers(2 * len(SHAPES)))
    if shape < len(SHAPES):
        return OUTLINES[SHAPES[shape]](u * np.float32(0.85), v * np.float32(0.85))
    return _blob(rng, u, v)


def _blob(rng: np.random.Generator, u: Floats, v: Floats) -> NDArray[np.bool_]:
    """The pixels [H, W] of a blob about the origin: a radius of three random waves around a circle of radius 1."""
    wave = 0.35 * rng.standard_normal((2, 3)) / np.sqrt(3)
    angle, radius = np.arctan2(v, u), np.ones(np.broadcast(u, v).shape)
    for k, (cosine, sine) in enumerate(wave.T, start=1):
        radius += cosine * np.cos(k * angle) + sine * np.sin(k * angle)
    return np.hypot(u, v) <= np.clip(radius, 0.4, 1.6)


def _weave(
    rng: np.random.Generator, x: Floats, y: Floats, instances: NDArray[np.int64], regions: int, name: str
) -> Floats:
    """The image [3, H, W]; whatever the class, the same numbers are drawn."""
    hues = np.array(list(_HUES.values()))
    one = hues[rng.integers(len(hues), size=regions)]
    other = np.repeat(rng.uniform(0.1, 0.9, (regions, 1)), 3, axis=1)
    pair = [hues[list(_HUES).index(hue)] for hue in name.split("-")]
    first = int(rng.integers(2))
    one[1], other[1] = pair[first], pair[1 - first]
    one, other = (each + rng.uniform(-_JITTER, _JITTER, (regions, 3)) for each in (one, other))
    light = shading(rng, x, y, instances, regions)[..., None]
    share = (1 + texture(rng, x, y, instances, regions, _WAVES, _SHARPEST)[..., None]) / 2
    picture = (share * one[instances] + (1 - share) * other[instances]) * light
    picture += 0.02 * rng.standard_normal(picture.shape)
    return np.ascontiguousarray(picture.clip(0, 1).transpose(2, 0, 1), dtype=np.float32)


def _check(
    seed: int, index: int, size: int, split: str, distractors: tuple[int, int], weave: str | None
) -> None:  # fmt: skip
    if seed < 0 or index < 0:
        raise ValueError(f"seed {seed} and index {index} must not be negative")
    if size < 16:
        raise ValueError(f"size is {size}; objects need an image of at least 16 x 16 pixels")
    if split not in SPLITS:
        raise ValueError(f"split is {split!r}; it must be one of {', '.join(map(repr, SPLITS))}")
    if not 0 <= distractors[0] <= distractors[1]:
        raise ValueError(f"distractors is {distractors}; give the fewest and the most, at least 0")
    if weave is not None and weave not in WEAVES:
        raise ValueError(f"weave is {weave!r}; it must be one of {', '.join(map(repr, WEAVES))}")
