"""The tree in which the maps of tokens join, and its cuts into clusters."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_ultra.errors import MissingExtraError

__all__ = ["LinkageTree", "check_scipy", "cosine_distances"]


@dataclass(frozen=True, eq=False)
class LinkageTree:
    """Hierarchical clustering of T maps, kept whole, so that every cut comes from it at once.

    Average linkage of cosine distances (ULTra, arXiv 2411.12589, section on segmentation).

    Attributes:
        merges: float64 [T - 1, 4] as ``scipy.cluster.hierarchy.linkage`` gives it: the two nodes that
            join, the distance at which they do, and the number of maps below. Distances do not fall.

    Example:
        >>> maps = torch.tensor([[1.0, 0.0, 0.0], [0.9, 0.1, 0.0], [0.0, 0.0, 1.0]])
        >>> tree = LinkageTree.of(cosine_distances(maps))
        >>> tree.cut(n_clusters=2)
        tensor([0, 0, 1])
        >>> tree.cut(threshold=0.001)
        tensor([0, 1, 2])
    """

    merges: NDArray[np.float64]

    @classmethod
    def of(cls, distances: Tensor) -> LinkageTree:
        """The tree of a symmetric matrix of distances [T, T]."""
        check_scipy()
        from scipy.cluster.hierarchy import linkage
        from scipy.spatial.distance import squareform

        if len(distances) == 1:
            return cls(np.zeros((0, 4)))
        condensed = squareform(distances.double().cpu().numpy(), checks=False)
        return cls(linkage(condensed, method="average"))

    @property
    def leaves(self) -> int:
        """T, the number of maps."""
        return len(self.merges) + 1

    def cut(self, *, n_clusters: int | None = None, threshold: float | None = None) -> Tensor:
        """Clusters [T] of the maps, numbered from 0 in the order of their first map.

        Args:
            n_clusters: so many exactly, also where distances are equal.
            threshold: join whatever is at most this far apart (zeta).

        Raises:
            ValueError: if not exactly one of the two is given, or it is out of range.
        """
        if threshold is not None and n_clusters is None:
            return self._joined(int(np.searchsorted(self.merges[:, 2], threshold, side="right")))
        if threshold is not None or n_clusters is None:
            raise ValueError("a tree is cut at a number of clusters or at a distance: give n_clusters or threshold")
        if not 1 <= n_clusters <= self.leaves:
            raise ValueError(f"n_clusters={n_clusters}: {self.leaves} maps make 1 to {self.leaves} clusters")
        return self._joined(self.leaves - n_clusters)

    def _joined(self, merges: int) -> Tensor:
        """The clusters after the first ``merges`` joins: the connected parts of the tree's lower part."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        nodes = self.leaves + merges
        children = self.merges[:merges, :2].astype(np.int64).ravel()
        parents = np.repeat(np.arange(self.leaves, nodes), 2)
        graph = coo_array((np.ones(len(children)), (children, parents)), shape=(nodes, nodes))
        _, part = connected_components(graph, directed=False)
        _, first, part = np.unique(part[: self.leaves], return_index=True, return_inverse=True)
        return torch.from_numpy(np.argsort(np.argsort(first))[part])


def check_scipy() -> None:
    """Raise :class:`MissingExtraError` if scipy, which makes the trees, is missing: before long work."""
    if find_spec("scipy") is None:
        raise MissingExtraError("scipy is not installed; pip install 'captum_ultra[segmentation]' brings it.")


def cosine_distances(maps: Tensor) -> Tensor:
    """Distances 1 - cos of T maps [T, P], float64 [T, T], from 0 to 2; to 1 where no entry is negative.

    The direction of a zero map is not defined: two of them are taken to be at distance 0, and one is
    at distance 1 from every other map, as if at right angles to it.

    Raises:
        ValueError: for values that are not finite.

    Example:
        >>> cosine_distances(torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]))[2]
        tensor([1., 1., 0.], dtype=torch.float64)
    """
    if not bool(maps.isfinite().all()):
        raise ValueError("maps hold values that are not finite; they have no distances")
    maps = maps.double()
    largest = maps.abs().amax(-1, keepdim=True)
    empty = largest == 0
    units = torch.nn.functional.normalize(maps / largest.where(~empty, 1), dim=-1)
    distances = (1 - units @ units.T).clamp(0, 2)
    distances = distances.where(~(empty & empty.T), 0)
    return distances.fill_diagonal_(0)
