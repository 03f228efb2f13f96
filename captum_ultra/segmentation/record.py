"""Segmentations with the trees they were cut from."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from captum_ultra.io import written_whole
from captum_ultra.segmentation.cutting import Clusters, Cut
from captum_ultra.segmentation.enlarging import enlarge, isometric
from captum_ultra.segmentation.linkage import LinkageTree, cosine_distances
from captum_ultra.segmentation.pixels import Regions, label_pixels, min_max
from captum_ultra.segmentation.rule import SegmentationRule

__all__ = ["Segmentation", "segment_maps"]

_FORMAT = "captum_ultra segmentation 1"


def segment_maps(
    maps: Tensor,
    n_clusters: Clusters | None = None,
    threshold: float | None = None,
    *,
    rule: SegmentationRule | None = None,
) -> Tensor:
    """Segment images by clustering the maps of their tokens (ULTra, arXiv 2411.12589, segmentation).

    Hierarchical clustering (cosine distances, average linkage) of an image's T maps; per cluster the
    sum of its maps, min-max scaled; a pixel belongs to the cluster that is highest there.

    Args:
        maps: floating point [B, T, H, W], T maps an image.
        n_clusters: k, one for all images or one an image; a cluster that is highest nowhere holds no
            pixel, so there may be fewer labels.
        threshold: the distance zeta up to which maps are joined, 0.4 if neither is given.
        rule: how maps are compared and drawn; see :class:`SegmentationRule`.

    Returns:
        int64 labels [B, H, W] (or of ``rule.size``) on the maps' device, for every image contiguous from
        0 in the order of their first pixel, row by row. :meth:`Segmentation.of` keeps the trees as well.

    Raises:
        TypeError, ValueError: for maps of another kind or shape or with values that are not finite, and
            for numbers out of range.

    Example:
        >>> left, right = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([[0.0, 1.0], [0.0, 2.0]])
        >>> segment_maps(torch.stack([left, left, right, right])[None], n_clusters=2)
        tensor([[[0, 1],
                 [0, 1]]])
    """
    return Segmentation.of(maps, n_clusters, threshold, rule=rule).labels


@dataclass(frozen=True, eq=False)
class Segmentation:
    """The segmentation of B images, and what it takes to cut it anew.

    Attributes:
        maps: [B, M, h, w], the maps that were clustered.
        assigned: int64 [B, T], the map of every token; there are as many maps as tokens unless some
            tokens stand for others.
        trees: one an image, of its T tokens.
        rule: how maps were compared and drawn.
        made_by: where the trees were cut; its text names an oracle.
        regions: one an image.
    """

    maps: Tensor
    assigned: Tensor
    trees: tuple[LinkageTree, ...]
    rule: SegmentationRule
    made_by: Cut
    regions: tuple[Regions, ...]

    @classmethod
    def of(
        cls,
        maps: Tensor,
        n_clusters: Clusters | None = None,
        threshold: float | None = None,
        *,
        rule: SegmentationRule | None = None,
        assigned: Tensor | None = None,
    ) -> Segmentation:
        """Cluster and draw; arguments and errors as :func:`segment_maps`.

        Args:
            maps: floating point [B, M, H, W].
            n_clusters: k.
            threshold: zeta.
            rule: how maps are compared and drawn.
            assigned: int64 [B, T], the map of every token, where T tokens share M maps: the result is that
                of all T maps, each of them counted. Every token has its own map when None.

        Example:
            >>> found = Segmentation.of(torch.rand(2, 9, 3, 3), n_clusters=3)
            >>> found.cut(n_clusters=[2, 4]).made_by.n_clusters
            (2, 4)
            >>> print(found.cut(threshold=0.1).made_by)
            cut at distance 0.1
        """
        cut, rule = Cut.parse(n_clusters, threshold), rule or SegmentationRule()
        _check_maps(maps)
        cut.check(*maps.shape[:2])
        assigned = _check_assigned(assigned, maps)
        # In float64 on the CPU: there the trees are made, and equal maps give equal labels everywhere.
        exact = maps.detach().cpu().double()
        trees = tuple(
            LinkageTree.of(_distances(each, rule)[tokens][:, tokens])
            for each, tokens in zip(exact, assigned, strict=True)
        )
        return cls(maps.detach(), assigned, trees, rule, cut, _draw(exact, assigned, trees, cut, rule))

    def cut(self, n_clusters: Clusters | None = None, threshold: float | None = None) -> Segmentation:
        """The same trees cut elsewhere; no model is run and nothing is clustered again.

        Raises:
            TypeError, ValueError: as :func:`segment_maps`.
        """
        cut = Cut.parse(n_clusters, threshold)
        cut.check(*self.maps.shape[:2])
        regions = _draw(self.maps.cpu().double(), self.assigned, self.trees, cut, self.rule)
        return replace(self, made_by=cut, regions=regions)

    @property
    def labels(self) -> Tensor:
        """int64 [B, H, W], for every image contiguous from 0 in the order of their first pixel."""
        return torch.stack([each.labels for each in self.regions]).to(self.maps.device)

    @property
    def scores(self) -> Tensor:
        """[B, H, W], how high a pixel's own cluster is there, in 0..1."""
        return torch.stack([each.scores for each in self.regions]).to(self.maps)

    @property
    def cluster_maps(self) -> tuple[Tensor, ...]:
        """For every image [k, H, W] in 0..1; map j belongs to label j."""
        return tuple(each.cluster_maps.to(self.maps) for each in self.regions)

    @property
    def token_labels(self) -> Tensor:
        """int64 [B, T]: the cluster of every token."""
        return torch.stack([each.clusters for each in self.regions]).to(self.maps.device)

    def save(self, path: str | Path) -> None:
        """Write maps, trees, rule and cut as one safetensors file, whole or not at all."""
        from safetensors.torch import save_file

        tensors = {
            "maps": self.maps.cpu().contiguous(),
            "assigned": self.assigned.contiguous(),
            "merges": torch.stack([torch.from_numpy(tree.merges) for tree in self.trees]),
        }
        described = {"rule": asdict(self.rule), "cut": asdict(self.made_by)}
        with written_whole(Path(path)) as unfinished:
            save_file(tensors, unfinished, {"format": _FORMAT, "segmentation": json.dumps(described)})

    @classmethod
    def load(cls, path: str | Path) -> Segmentation:
        """What :meth:`save` wrote, on the CPU; it can be cut anew.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file is another one.
        """
        from safetensors import SafetensorError, safe_open

        if not Path(path).is_file():
            raise FileNotFoundError(f"there is no segmentation {str(path)!r}")
        try:
            with safe_open(str(path), framework="pt") as file:
                metadata = file.metadata() or {}
                if metadata.get("format") != _FORMAT:
                    raise ValueError(f"{str(path)!r} is not a file of Segmentation.save")
                maps, assigned, merges = (file.get_tensor(name) for name in ("maps", "assigned", "merges"))
        except SafetensorError as error:
            raise ValueError(f"{str(path)!r} cannot be read as a segmentation: {error}") from error
        described = json.loads(metadata["segmentation"])
        rule = SegmentationRule(**_as_tuples(described["rule"]))
        cut = Cut(**_as_tuples(described["cut"]))
        trees = tuple(LinkageTree(each.numpy()) for each in merges)
        return cls(maps, assigned, trees, rule, cut, _draw(maps.double(), assigned, trees, cut, rule))


def _check_maps(maps: Tensor) -> None:
    if not isinstance(maps, Tensor):
        raise TypeError(f"maps must be a tensor [B, T, H, W], got {type(maps).__name__}")
    if not maps.is_floating_point():
        raise TypeError(f"maps must be floating point, got {maps.dtype}")
    if maps.dim() != 4 or maps.numel() == 0:
        hint = "; add a batch dimension: maps[None]" if maps.dim() == 3 else ""
        raise ValueError(
            f"maps of shape {list(maps.shape)}: T maps for each of B images are needed, [B, T, H, W]{hint}"
        )


def _check_assigned(assigned: Tensor | None, maps: Tensor) -> Tensor:
    if assigned is None:
        return torch.arange(maps.shape[1]).expand(len(maps), -1)
    assigned = assigned.detach().cpu()
    if assigned.dtype != torch.int64 or assigned.dim() != 2 or len(assigned) != len(maps):
        raise ValueError(
            f"assigned, {assigned.dtype} of shape {list(assigned.shape)}, must be int64 [{len(maps)}, T]: the map of "
            "every token of every image"
        )
    for each in assigned:
        if each.unique().tolist() != list(range(maps.shape[1])):
            raise ValueError(
                f"assigned: every one of the {maps.shape[1]} maps must be that of some token, and no other"
            )
    return assigned


def _scaled(maps: Tensor, rule: SegmentationRule, size: tuple[int, int]) -> Tensor:
    """The maps [T, h, w] of one image, min-max scaled by what they reach where they are compared."""
    if not rule.scale_maps:
        return maps
    if rule.cluster_on == "grid":
        return min_max(maps)
    ends = [enlarge(each[None], size, rule.interpolation).aminmax() for each in maps]
    low, high = (torch.stack(each).view(-1, 1, 1) for each in zip(*ends, strict=True))
    return (maps - low) / (high - low).where(high > low, 1)


def _distances(maps: Tensor, rule: SegmentationRule) -> Tensor:
    size = rule.size or (maps.shape[-2], maps.shape[-1])
    maps = _scaled(maps, rule, size)
    if rule.cluster_on == "image":
        maps = isometric(maps, size, rule.interpolation)
    return cosine_distances(maps.flatten(1))


def _draw(
    maps: Tensor, assigned: Tensor, trees: tuple[LinkageTree, ...], cut: Cut, rule: SegmentationRule
) -> tuple[Regions, ...]:
    size = rule.size or (maps.shape[-2], maps.shape[-1])
    return tuple(
        label_pixels(_scaled(each, rule, size), tokens, cut.of(tree, index), size, rule.interpolation, rule.smooth)
        for index, (each, tokens, tree) in enumerate(zip(maps, assigned, trees, strict=True))
    )


def _as_tuples(values: dict) -> dict:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
