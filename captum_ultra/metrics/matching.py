"""Clusters have no names: matching them to classes, and the scores of the match."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_ultra.segmentation.linkage import check_scipy

__all__ = ["check_labels", "class_confusion", "class_iou", "contingency", "match_clusters"]


def check_labels(labels: Tensor, target: Tensor, num_clusters: int, num_classes: int, ignore_index: int | None) -> None:
    """Raise ``TypeError`` or ``ValueError`` for labels [B, H, W] that cannot be counted."""
    for name, each in (("labels", labels), ("target", target)):
        if each.is_floating_point() or each.is_complex() or each.dtype == torch.bool:
            raise TypeError(f"{name} must hold integers, got {each.dtype}")
    if labels.dim() != 3 or labels.shape != target.shape:
        raise ValueError(
            f"labels {list(labels.shape)} and target {list(target.shape)} must have one shape [B, H, W]; enlarge the "
            "labels to the target, not the target to the labels"
        )
    counted = target if ignore_index is None else target[target != ignore_index]
    for name, each, count in (("labels", labels, num_clusters), ("target", counted, num_classes)):
        if each.numel() and (int(each.min()) < 0 or int(each.max()) >= count):
            ignored = f", or the ignored {ignore_index}" if name == "target" and ignore_index is not None else ""
            raise ValueError(
                f"{name} holds values from {int(each.min())} to {int(each.max())}; possible are 0..{count - 1}{ignored}"
            )


def contingency(
    labels: Tensor, target: Tensor, num_clusters: int, num_classes: int, ignore_index: int | None
) -> Tensor:
    """How many pixels have a cluster and a class: int64 [num_clusters, num_classes].

    Pixels whose target is ``ignore_index`` are not counted. Labels and target have any one shape.

    Example:
        >>> contingency(torch.tensor([0, 0, 1]), torch.tensor([1, 255, 1]), 2, 2, ignore_index=255)
        tensor([[0, 1],
                [0, 1]])
    """
    labels, target = labels.long().flatten(), target.long().flatten()
    if ignore_index is not None:
        counted = target != ignore_index
        labels, target = labels[counted], target[counted]
    cells = torch.bincount(labels * num_classes + target, minlength=num_clusters * num_classes)
    return cells.view(num_clusters, num_classes)


def match_clusters(counts: Tensor) -> Tensor:
    """The class of every cluster [K], -1 for none: the one-to-one match that shares most pixels.

    Hungarian method on the contingency table [K, C] (Kuhn, 1955). Only clusters and classes that hold
    pixels take part, so that none is lost to a class that does not occur; if there are more clusters
    than classes, some stay without a class, and the other way round.

    Example:
        >>> match_clusters(torch.tensor([[5, 1, 0], [4, 3, 0], [1, 1, 0]]))
        tensor([ 0,  1, -1])
    """
    check_scipy()
    from scipy.optimize import linear_sum_assignment

    counts = counts.cpu()
    clusters, classes = counts.any(1).nonzero().flatten(), counts.any(0).nonzero().flatten()
    chosen, matched = linear_sum_assignment(counts[clusters][:, classes].numpy(), maximize=True)
    found = torch.full((len(counts),), -1)
    found[clusters[torch.from_numpy(chosen)]] = classes[torch.from_numpy(matched)]
    return found


def class_confusion(counts: Tensor, match: Tensor) -> Tensor:
    """Confusion in class space, int64 [C, C + 1]: rows are true classes, columns those of the clusters.

    The last column counts the pixels of clusters that have no class.

    Args:
        counts: contingency table [K, C].
        match: the class of every cluster [K], -1 for none.
    """
    classes = counts.shape[1]
    column = match.to(counts.device).where(match.to(counts.device) >= 0, classes)
    confusion = counts.new_zeros(classes + 1, classes)
    return confusion.index_add_(0, column, counts).T


def class_iou(confusion: Tensor) -> Tensor:
    """Intersection over union, float64 [C], of every class that occurs; NaN for one that does not."""
    confusion = confusion.double()
    hits, true, predicted = confusion.diagonal(), confusion.sum(1), confusion.sum(0)[:-1]
    return (hits / (true + predicted - hits)).where(true > 0, torch.nan)
