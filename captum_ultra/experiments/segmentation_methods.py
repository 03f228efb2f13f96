"""One scene segmented by ULTra and by what it is held against, each told the number of regions.

All token maps (ULTra's, rows of rollout, rows of attention) go through the same tree and the same drawing. Labels of
patches (clustered latents) become labels of pixels by enlarging each cluster's mask bilinearly, so that no method is
left with the staircase of the patch grid.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.util import find_spec

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from captum_ultra.attr.scores import Score
from captum_ultra.data import Scene
from captum_ultra.errors import MissingExtraError
from captum_ultra.experiments import rows
from captum_ultra.experiments.last_block import last_block_rows
from captum_ultra.models.vit import Block, VisionTransformer
from captum_ultra.segmentation import LatentTokenSegmenter, Segmentation, SegmentationRule
from captum_ultra.segmentation.enlarging import enlarge

__all__ = [
    "LAYERLESS",
    "METHODS",
    "SCORES",
    "ULTRA",
    "Found",
    "Sight",
    "check_scikit_learn",
    "segment_scene",
]

ULTRA = ("ULTra_E", "ULTra_S", "ULTra_W")
SCORES: dict[str, Score] = {"ULTra_E": "energy", "ULTra_S": "sum"}  # ULTra_W has another one for each layer
_PLACE = 1.0  # weight of a pixel's place, in units of the image's side, beside its colour in 0..1


@dataclass(frozen=True)
class Found:
    """Labels of the pixels, int64 [H, W], and the token maps that made them, [P, rows, columns], if any did."""

    labels: Tensor
    maps: Tensor | None = None


@dataclass(frozen=True, eq=False)
class Sight:
    """A scene as the model sees it, and what several methods read from one run.

    Attributes:
        model: no CLS token; see :class:`captum_ultra.models.vit.VisionTransformer`.
        scene: its instances give the number of regions, background included: an oracle.
        scores: further scores by name and layer, such as ULTra_W's.
    """

    model: VisionTransformer
    scene: Scene
    scores: Mapping[tuple[str, int], Score]

    @cached_property
    def x(self) -> Tensor:
        """The normalised image [1, 3, H, W]."""
        return self.model.preprocess(self.scene.image)[None]

    @cached_property
    def run(self) -> rows.Record:
        return rows.record(self.model, self.x)

    @property
    def regions(self) -> int:
        return len(self.scene.instances.unique())

    @property
    def size(self) -> tuple[int, int]:
        return self.scene.instances.shape[0], self.scene.instances.shape[1]

    @property
    def grid(self) -> tuple[int, int]:
        return self.size[0] // self.model.patch_size, self.size[1] // self.model.patch_size


def segment_scene(sight: Sight, method: str, layer: int) -> Found:
    """Segment a scene into its number of regions.

    Args:
        sight: the scene.
        method: one of ``METHODS``.
        layer: number of blocks passed, from 1; 0 for methods that look at pixels (``LAYERLESS``).

    Raises:
        ValueError: for an unknown method, a layer it does not have, or a score that was not given.

    Example:
        >>> from captum_ultra.data import render_scene
        >>> from captum_ultra.models.vit import ViTConfig
        >>> model = VisionTransformer(ViTConfig(dim=16, depth=1, heads=2)).eval()
        >>> sight = Sight(model, render_scene(seed=0, index=0), {})
        >>> segment_scene(sight, "rollout", 1).labels.shape
        torch.Size([64, 64])
    """
    if method not in METHODS:
        raise ValueError(f"method {method!r} is unknown; possible: {', '.join(METHODS)}")
    possible = (0,) if method in LAYERLESS else range(1, len(sight.model.blocks) + 1)
    if layer not in possible:
        raise ValueError(f"{method} has no layer {layer}; possible: {', '.join(map(str, possible))}")
    return METHODS[method](sight, method, layer)


def check_scikit_learn() -> None:
    """Raise :class:`MissingExtraError` if scikit-learn, which clusters pixels and latents, is missing."""
    if find_spec("sklearn") is None:
        raise MissingExtraError("scikit-learn is not installed; pip install 'captum_ultra[test]' brings it.")


def _ultra(sight: Sight, method: str, layer: int) -> Found:
    score = SCORES.get(method, sight.scores.get((method, layer)))
    if score is None:
        raise ValueError(f"{method} needs a score for layer {layer}: give it as scores[{method!r}, {layer}]")
    found = LatentTokenSegmenter(sight.model, layer, score).segment(sight.x, n_clusters=sight.regions)
    return Found(found.labels[0], found.maps[0])


def _rollout(sight: Sight, _: str, layer: int) -> Found:
    return _of_rows(sight, rows.rollout_rows(sight.run, torch.arange(len(sight.run.attentions[0])), layer))


def _last_block(sight: Sight, _: str, layer: int) -> Found:
    block = sight.model.blocks[layer - 1]
    assert isinstance(block, Block)
    return _of_rows(sight, last_block_rows(block, sight.run.latents[layer - 1], "energy"))


def _raw_attention(sight: Sight, _: str, layer: int) -> Found:
    return _of_rows(sight, sight.run.attentions[layer - 1])


def _of_rows(sight: Sight, matrix: Tensor) -> Found:
    """Cluster the rows [P, P]; a token's own entry is the maximum of the others, as it is in ULTra's maps."""
    others = matrix.clone().fill_diagonal_(float("-inf")).amax(1)
    maps = (matrix - matrix.diag().diag() + others.diag()).unflatten(1, sight.grid)
    rule = SegmentationRule(size=sight.size)
    return Found(Segmentation.of(maps[None], sight.regions, rule=rule).labels[0], maps)


def _k_means_of_latents(sight: Sight, _: str, layer: int) -> Found:
    units = F.normalize(sight.run.latents[layer], dim=-1)
    return _of_patches(sight, _k_means(units, sight.regions))


def _spectral_of_latents(sight: Sight, _: str, layer: int) -> Found:
    from sklearn.cluster import SpectralClustering

    units = F.normalize(sight.run.latents[layer].double(), dim=-1)
    affinity = (units @ units.T).clamp_min(0).numpy()
    clustering = SpectralClustering(sight.regions, affinity="precomputed", n_init=10, random_state=0)
    return _of_patches(sight, clustering.fit_predict(affinity))


def _k_means_of_pixels(sight: Sight, method: str, _: int) -> Found:
    features = sight.scene.image
    if method == "k-means of pixels and places":
        places = torch.meshgrid(*(torch.linspace(0, _PLACE, side) for side in sight.size), indexing="ij")
        features = torch.cat([features, torch.stack(places)])
    return Found(torch.from_numpy(_k_means(features.flatten(1).T, sight.regions)).long().view(sight.size))


def _k_means(features: Tensor, clusters: int) -> NDArray[np.int32]:
    from sklearn.cluster import KMeans

    return KMeans(clusters, n_init=10, random_state=0).fit_predict(features.double().numpy())


def _of_patches(sight: Sight, clusters: NDArray[np.int32]) -> Found:
    """Labels of patches [P] -> of pixels: the cluster whose enlarged mask is highest."""
    masks = F.one_hot(torch.from_numpy(clusters).long(), sight.regions).T.double().unflatten(1, sight.grid)
    return Found(enlarge(masks, sight.size, "bilinear").argmax(0))


METHODS: dict[str, Callable[[Sight, str, int], Found]] = {
    "ULTra_E": _ultra,
    "ULTra_S": _ultra,
    "ULTra_W": _ultra,
    "last block of ULTra_E": _last_block,
    "rollout": _rollout,
    "raw attention": _raw_attention,
    "k-means of latents": _k_means_of_latents,
    "spectral clustering of latents": _spectral_of_latents,
    "k-means of pixels": _k_means_of_pixels,
    "k-means of pixels and places": _k_means_of_pixels,
}
LAYERLESS = ("k-means of pixels", "k-means of pixels and places")
