"""Accuracy and mIoU of a segmentation without class names (U.ACC and U.mIoU)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_ultra.metrics.base import Metric
from captum_ultra.metrics.matching import check_labels, class_confusion, class_iou, contingency, match_clusters

__all__ = ["MatchedSegmentation"]

_PROTOCOLS = ("image", "dataset")


class MatchedSegmentation(Metric):
    """U.ACC and U.mIoU: clusters are matched to classes, then scored as classes.

    Two protocols, whose figures are not comparable:

    - ``"image"`` (clusters are found anew in every image): one Hungarian match for each image, to the
      classes present in it; then one confusion matrix over the data set, in class space.
    - ``"dataset"`` (clusters are shared across images): one contingency table and one Hungarian match
      over the whole set, as the baselines of the published tables report.

    What the sources leave open is decided so: the match maximises shared pixels, not IoU. Clusters
    without a class are errors: their pixels are missed by their true classes, and no class has them too
    many. Classes without a cluster have an IoU of 0. The mean is over the classes that occur in the
    targets seen. Ignored pixels count nowhere, not in the match either.

    Called with ``labels`` and ``target``, integers [B, H, W] of equal shape. ``compute()`` gives a dict:

    - ``accuracy``: pixels of the right class over all counted pixels.
    - ``miou``: mean over classes of the IoU of the confusion matrix of the whole set.
    - ``image_miou`` (protocol "image" only): for every image the mean over its classes, then over
      images; images without a counted pixel are left out.

    All are NaN when no pixel was counted.

    Args:
        protocol: "image" or "dataset".
        ignore_index: the target of pixels that do not count; None if there is none.
        num_classes: one more than the largest class, by default that of 8-bit labels. A number larger
            than necessary changes no result.
        num_clusters: one more than the largest label; ``num_classes`` when None.
        **kwargs: further arguments of ``torchmetrics.Metric``.

    Raises:
        TypeError, ValueError: for arguments; on update, for labels that are not integers, have
            another shape or are out of range.

    Example:
        >>> metric = MatchedSegmentation(protocol="image")
        >>> labels = torch.tensor([[[0, 0, 1, 1]]])
        >>> target = torch.tensor([[[7, 7, 7, 255]]])
        >>> {name: round(float(value), 3) for name, value in metric(labels, target).items()}
        {'accuracy': 0.667, 'miou': 0.667, 'image_miou': 0.667}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    counts: Tensor
    image_iou: Tensor
    images: Tensor

    def __init__(
        self,
        protocol: str = "image",
        ignore_index: int | None = 255,
        num_classes: int = 256,
        num_clusters: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if protocol not in _PROTOCOLS:
            raise ValueError(f"protocol={protocol!r} is unknown; possible: {', '.join(map(repr, _PROTOCOLS))}")
        num_clusters = num_classes if num_clusters is None else num_clusters
        if num_classes < 1 or num_clusters < 1:
            raise ValueError(f"num_classes={num_classes} and num_clusters={num_clusters} must be at least 1")
        self.protocol, self.ignore_index = protocol, ignore_index
        self.num_classes, self.num_clusters = num_classes, num_clusters
        # In class space for "image", clusters against classes for "dataset": either way a plain sum.
        shape = (num_classes, num_classes + 1) if protocol == "image" else (num_clusters, num_classes)
        self.add_state("counts", torch.zeros(shape, dtype=torch.long), dist_reduce_fx="sum")
        self.add_state("image_iou", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, labels: Tensor, target: Tensor) -> None:
        """Count a batch, integers [B, H, W]."""
        sizes = self.num_clusters, self.num_classes, self.ignore_index
        check_labels(labels, target, *sizes)
        if self.protocol == "dataset":
            self.counts += contingency(labels, target, *sizes)
            return
        for predicted, true in zip(labels, target, strict=True):
            table = contingency(predicted, true, *sizes)
            confusion = class_confusion(table, match_clusters(table))
            self.counts += confusion
            if confusion.any():
                self.image_iou += class_iou(confusion).nanmean()
                self.images += 1

    def compute(self) -> dict[str, Tensor]:
        """The scores of everything counted so far."""
        if self.protocol == "dataset":
            return _scores(class_confusion(self.counts, match_clusters(self.counts)))
        return {**_scores(self.counts), "image_miou": self.image_iou / self.images}


def _scores(confusion: Tensor) -> dict[str, Tensor]:
    return {
        "accuracy": confusion.diagonal().sum().double() / confusion.sum(),
        "miou": class_iou(confusion).nanmean(),
    }
