"""Maps that no model made, for pages whose numbers a test knows."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from captum_ultra.insights.explorer import ImageMaps
from captum_ultra.segmentation.linkage import LinkageTree, cosine_distances

__all__ = ["METHODS", "image_sample"]

METHODS = ("first", "second")


def image_sample(
    grid: tuple[int, int] = (6, 8), layers: int = 3, *, seed: int = 0, signed: bool = False, name: str = "model",
    patch: int = 10,
) -> ImageMaps:  # fmt: skip
    """Random maps that fall off with the distance between patches, and their trees."""
    import torch

    random = np.random.default_rng(seed)
    rows, columns = grid
    places = np.stack(np.meshgrid(np.arange(rows), np.arange(columns), indexing="ij"), axis=-1).reshape(-1, 2)
    apart = ((places[:, None] - places[None]) ** 2).sum(-1)
    maps: dict[tuple[str, int], NDArray[np.float32]] = {}
    for method in METHODS:
        for layer in range(1, layers + 1):
            values = np.exp(-apart / (4 * layer)) * random.gamma(2.0, 1.0, apart.shape) - (0.3 if signed else 0)
            maps[method, layer] = values.astype(np.float32)
    merges = {key: LinkageTree.of(cosine_distances(torch.from_numpy(each))).merges for key, each in maps.items()}
    picture = random.random((rows * patch, columns * patch, 3)).astype(np.float32)
    return ImageMaps(name, picture, grid, tuple(range(1, layers + 1)), METHODS, maps, {} if signed else merges)
