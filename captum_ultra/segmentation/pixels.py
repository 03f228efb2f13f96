"""From clusters of tokens to labels of pixels."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.segmentation.enlarging import enlarge

__all__ = ["Regions", "label_pixels", "min_max", "vote"]

_DRAW = 1e-9  # far above the rounding of float64, far below any difference that means something


@dataclass(frozen=True, eq=False)
class Regions:
    """One image's segmentation.

    Attributes:
        labels: int64 [H, W], contiguous from 0 in the order of the first pixel, row by row.
        scores: [H, W], the value of a pixel's own cluster map there, in 0..1.
        cluster_maps: [k, H, W] in 0..1; map j belongs to label j. Clusters that hold no pixel come last.
        clusters: int64 [T], the cluster of every token, numbered as the cluster maps are.
    """

    labels: Tensor
    scores: Tensor
    cluster_maps: Tensor
    clusters: Tensor


def label_pixels(
    maps: Tensor, assigned: Tensor, clusters: Tensor, size: tuple[int, int], interpolation: str, smooth: int
) -> Regions:
    """Per cluster the sum of its tokens' maps, min-max scaled; a pixel belongs to the cluster that is highest there.

    Clusters that are equally high draw, and the one of the first token wins.

    Args:
        maps: float64 [M, h, w].
        assigned: int64 [T], the map of every token.
        clusters: int64 [T], the cluster of every token, numbers from 0 without gaps.
        size: (H, W) of the result.
        interpolation: how the sums are enlarged.
        smooth: side of the window of a majority vote among the labels; 0 for none.
    """
    members = F.one_hot(clusters).T.to(maps) @ F.one_hot(assigned, len(maps)).to(maps)
    sums = (members @ maps.flatten(1)).unflatten(1, maps.shape[1:])
    # Enlarging is linear, so the sum of the enlarged maps is the enlarged sum.
    scaled = min_max(enlarge(sums, size, interpolation))
    # Every cluster reaches 1 somewhere, so that two may well be highest together: no rounding decides then.
    labels = (scaled >= scaled.amax(0) - _DRAW).byte().argmax(0)
    for side in (0, smooth):  # numbered before the vote as well, whose draws the numbers decide
        labels = vote(labels, side)
        order = _by_first_pixel(labels, len(scaled))
        rank = order.argsort()
        labels, scaled, clusters = rank[labels], scaled[order], rank[clusters]
    return Regions(labels, scaled.gather(0, labels[None])[0], scaled, clusters)


def min_max(maps: Tensor) -> Tensor:
    """Each map [..., H, W] scaled to 0..1; a constant map becomes zero."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return (maps - low) / (high - low).where(high > low, 1)


def vote(labels: Tensor, side: int) -> Tensor:
    """Every pixel takes the commonest label [H, W] of the window around it; its own one wins a draw.

    The window ends at the border of the image; among other labels in a draw the smallest wins.

    Example:
        >>> vote(torch.tensor([[0, 0, 0], [0, 1, 0], [1, 1, 1]]), 3)
        tensor([[0, 0, 0],
                [0, 0, 0],
                [1, 1, 1]])
    """
    if side < 2:
        return labels
    own = F.one_hot(labels).permute(2, 0, 1).double()
    votes = F.avg_pool2d(own[None], side, stride=1, padding=side // 2, divisor_override=1)[0]
    return (votes + 0.5 * own).argmax(0)


def _by_first_pixel(labels: Tensor, count: int) -> Tensor:
    """The ``count`` clusters in the order of their first pixel, those without one last, as numbered."""
    flat = labels.flatten()
    first = torch.full((count,), flat.numel(), dtype=torch.long)
    first.scatter_reduce_(0, flat, torch.arange(flat.numel()), "amin")
    return first.argsort(stable=True)
