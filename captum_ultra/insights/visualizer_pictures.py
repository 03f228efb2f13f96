"""Samples as a page shows them: pictures and words."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from captum_ultra.insights.explorer.pictures import as_shown
from captum_ultra.insights.features import BaseFeature
from captum_ultra.insights.visualizer_samples import Sample

__all__ = ["at_most", "shown_image", "shown_text"]


def shown_image(feature: BaseFeature, sample: Sample) -> NDArray[np.float32]:
    """The picture [H, W, 3] in 0..1; values of another range are scaled from their lowest to their highest.

    Raises:
        ValueError: for something that is no picture.
    """
    given = sample.original
    if feature.visualization_transform is not None:
        given = feature.visualization_transform(given)
    picture = torch.as_tensor(given).detach().float().cpu()
    picture = picture[0] if picture.dim() == 4 else picture
    if picture.dim() != 3 or picture.shape[0] not in (1, 3):
        raise ValueError(f"the picture of a sample must be [C, H, W] with 1 or 3 channels, got {list(picture.shape)}")
    if picture.min() < 0 or picture.max() > 1:
        return as_shown(None, picture[None])
    return np.asarray(picture.expand(3, -1, -1).permute(1, 2, 0), dtype=np.float32)


def shown_text(feature: BaseFeature, sample: Sample) -> list[str]:
    """A string for each token.

    Raises:
        ValueError: for another number of strings than there are tokens.
    """
    ids = sample.original
    words: Any = feature.visualization_transform(ids) if feature.visualization_transform else ids[0].tolist()
    if len(words) == 1 and isinstance(words[0], list | tuple):
        (words,) = words
    if len(words) != ids.shape[1]:
        raise ValueError(
            f"the visualization_transform of {feature.name!r} made {len(words)} strings of {ids.shape[1]} tokens"
        )
    return [str(word) for word in words]


def at_most(values: NDArray[Any], side: int) -> NDArray[np.float64]:
    """A picture [H, W, 3] or a map [H, W], made smaller until no side is longer than ``side``.

    Example:
        >>> at_most(np.ones((4, 8)), 4).shape
        (2, 4)
    """
    array = np.asarray(values, dtype=np.float64)
    longest = max(array.shape[:2])
    if longest <= side:
        return array
    planes: Tensor = torch.from_numpy(array.reshape(*array.shape[:2], -1)).permute(2, 0, 1)[None]
    size = [max(1, round(length * side / longest)) for length in array.shape[:2]]
    small = F.interpolate(planes, size=size, mode="area")[0].permute(1, 2, 0).numpy()
    return small.reshape(*small.shape[:2], *array.shape[2:])
