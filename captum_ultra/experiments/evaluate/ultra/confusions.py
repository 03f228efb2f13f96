"""One image's matched confusion, kept small."""

from __future__ import annotations

from torch import Tensor

from captum_ultra.data.samples import IGNORE
from captum_ultra.experiments.evaluate.ultra.set_scores import Entries
from captum_ultra.metrics.matching import class_confusion, contingency, match_clusters

__all__ = ["confusion_of"]


def confusion_of(labels: Tensor, target: Tensor, classes: int) -> Entries:
    """Match the clusters of one image to its classes, as :class:`MatchedSegmentation` with protocol "image" does.

    Args:
        labels: int64 [H, W], from 0.
        target: int64 [H, W], 0 .. C-1 or 255 where nothing counts.
        classes: C.

    Example:
        >>> import torch
        >>> confusion_of(torch.tensor([[0, 0, 1, 1]]), torch.tensor([[2, 2, 2, 255]]), classes=3)
        [[2, 2, 2], [2, 3, 1]]
    """
    table = contingency(labels.cpu(), target.cpu(), int(labels.max()) + 1, classes, IGNORE)
    confusion = class_confusion(table, match_clusters(table))
    return [[int(true), int(found), int(confusion[true, found])] for true, found in confusion.nonzero()]
