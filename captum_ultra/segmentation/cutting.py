"""Where a tree is cut: how many clusters, or at which distance; and who decided."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_ultra.segmentation.linkage import LinkageTree

__all__ = ["DEFAULT_THRESHOLD", "Clusters", "Cut", "GroundTruthClusters", "gt_unique"]

DEFAULT_THRESHOLD = 0.4  # zeta of ViT-B in the authors' code, and of the paper's Table 8

Clusters = int | Sequence[int] | Tensor


class GroundTruthClusters(tuple[int, ...]):
    """Numbers of clusters read off a ground truth: an oracle, and named so wherever results are shown."""


def gt_unique(target: Tensor, ignore_index: int | None = 255) -> GroundTruthClusters:
    """ORACLE: the number of classes present in the ground truth of every image.

    The published results of ULTra cut every image's tree at this number, by every sign. Nobody who has no
    ground truth can: figures and tables made with it say "oracle".

    Args:
        target: integer labels [B, H, W].
        ignore_index: the label that counts as no class; None if there is none.

    Returns:
        B numbers, each at least 1, to be given as ``n_clusters``.

    Raises:
        TypeError: if the labels are not integers.
        ValueError: if they have another shape.

    Example:
        >>> gt_unique(torch.tensor([[[0, 0], [3, 255]], [[7, 7], [7, 7]]]))
        (2, 1)
    """
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise TypeError(f"target must hold integer labels, got {target.dtype}")
    if target.dim() != 3:
        raise ValueError(f"target must have the shape [B, H, W], got {list(target.shape)}")
    counts = []
    for labels in target:
        present = labels.unique()
        present = present if ignore_index is None else present[present != ignore_index]
        counts.append(max(1, len(present)))
    return GroundTruthClusters(counts)


@dataclass(frozen=True)
class Cut:
    """Either a number of clusters, for all images or one for each, or a distance.

    Attributes:
        n_clusters: one number, or one an image; None if cut at a distance.
        threshold: the distance zeta; None if cut at a number.
        oracle: whether the numbers were read off a ground truth.
    """

    n_clusters: int | tuple[int, ...] | None = None
    threshold: float | None = None
    oracle: bool = False

    @classmethod
    def parse(cls, n_clusters: Clusters | None, threshold: float | None) -> Cut:
        """Check what a caller gave; :data:`DEFAULT_THRESHOLD` if that is nothing.

        Raises:
            TypeError: for numbers of clusters that are not integers.
            ValueError: if both are given, or one is out of range.
        """
        if n_clusters is None:
            threshold = DEFAULT_THRESHOLD if threshold is None else float(threshold)
            if math.isnan(threshold) or threshold < 0:
                raise ValueError(f"threshold={threshold} is no distance; cosine distances lie in 0..2")
            return cls(threshold=threshold)
        if threshold is not None:
            raise ValueError(f"give either n_clusters={n_clusters!r} or threshold={threshold!r}, not both")
        return cls(_counts(n_clusters), oracle=isinstance(n_clusters, GroundTruthClusters))

    def of(self, tree: LinkageTree, image: int) -> Tensor:
        """The clusters [T] of one image's tree."""
        count = self.n_clusters[image] if isinstance(self.n_clusters, tuple) else self.n_clusters
        return tree.cut(n_clusters=count, threshold=self.threshold)

    def check(self, images: int, maps: int) -> None:
        """Raise ``ValueError`` if ``images`` trees of ``maps`` leaves each cannot be cut so."""
        counts = self.n_clusters if isinstance(self.n_clusters, tuple) else (self.n_clusters or 1,)
        if isinstance(self.n_clusters, tuple) and len(counts) != images:
            raise ValueError(f"n_clusters: {len(counts)} numbers for {images} images; give one, or one an image")
        if max(counts) > maps:
            raise ValueError(f"n_clusters={max(counts)}: the maps of {maps} tokens make at most {maps} clusters")

    def __str__(self) -> str:
        if self.threshold is not None:
            return f"cut at distance {self.threshold:g}"
        if self.oracle:
            return "k = number of classes in the ground truth (oracle)"
        return "k given for each image" if isinstance(self.n_clusters, tuple) else f"k = {self.n_clusters}"


def _counts(n_clusters: Clusters) -> int | tuple[int, ...]:
    given: Any = n_clusters.tolist() if isinstance(n_clusters, Tensor) else n_clusters
    single = not isinstance(given, Sequence)
    try:
        counts = tuple(operator.index(each) for each in ([given] if single else given))
    except TypeError:
        raise TypeError(f"n_clusters must be an integer, or one an image, got {n_clusters!r}") from None
    if not counts or min(counts) < 1:
        raise ValueError(f"n_clusters={n_clusters!r}: at least one cluster is needed")
    return counts[0] if single else counts
