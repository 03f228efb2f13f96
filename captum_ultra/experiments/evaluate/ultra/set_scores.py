"""Scores of a whole set of images, out of one small confusion an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ultra.data.samples import IGNORE
from captum_ultra.intervals import Interval, bootstrap, interval_ends, resampled_means
from captum_ultra.metrics.matching import class_iou

__all__ = ["Entries", "set_scores"]

Entries = list[list[int]]
"""[true class, found class (C for none), pixels], of a confusion [C, C + 1]."""


def set_scores(images: Sequence[Entries], classes: int) -> dict[str, Interval]:
    """U.ACC and U.mIoU of the confusion of all images together, and the mean of each image's own mIoU.

    Shares in 0..1, with 95 % percentile intervals over images drawn with replacement: of every draw the
    confusions are summed anew. Images without a counted pixel are left out.

    Raises:
        ValueError: if no image has a counted pixel.

    Example:
        >>> {name: each.mean for name, each in set_scores([[[0, 0, 3], [1, 2, 1]]], classes=2).items()}
        {'U.ACC': 0.75, 'U.mIoU': 0.5, 'mean mIoU of an image': 0.5}
    """
    confusions = torch.stack([_dense(each, classes) for each in images if each]) if any(images) else torch.empty(0)
    if not len(confusions):
        raise ValueError(f"none of {len(images)} images has a pixel that counts: every label is {IGNORE}")
    whole, own = _scores(confusions.sum(0)[None]), _scores(confusions)["U.mIoU"]
    drawn = _scores(resampled_means(confusions))  # shares of a mean are those of a sum
    found = {name: _interval(whole[name], drawn[name], len(confusions)) for name in whole}
    return {**found, "mean mIoU of an image": bootstrap(own)}


def _dense(entries: Entries, classes: int) -> Tensor:
    confusion = torch.zeros(classes, classes + 1, dtype=torch.float64)
    true, found, pixels = torch.tensor(entries).T
    confusion[true, found] = pixels.double()
    return confusion


def _scores(confusions: Tensor) -> dict[str, Tensor]:
    """Of confusions [N, C, C + 1]: float64 [N] each."""
    hits = confusions.diagonal(dim1=1, dim2=2).sum(1)
    iou = torch.func.vmap(class_iou)(confusions)
    return {"U.ACC": hits / confusions.sum((1, 2)), "U.mIoU": iou.nanmean(1)}


def _interval(whole: Tensor, drawn: Tensor, count: int) -> Interval:
    if count == 1:
        return Interval(float(whole), float("nan"), float("nan"))
    low, high = interval_ends(drawn).tolist()
    return Interval(float(whole), low, high)
