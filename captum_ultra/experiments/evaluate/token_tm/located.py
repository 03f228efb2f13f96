"""A map against the mask of an object: what is kept of one image, and what all images give together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.experiments.evaluate.rows import percent
from captum_ultra.experiments.evaluate.study import Result
from captum_ultra.intervals import Interval
from captum_ultra.metrics.localization import (
    LocalizationScore,
    localization_average_precision,
    localization_confusion,
)

__all__ = ["located", "of_located"]

_METRICS = {"pixel accuracy": "pixel_accuracy", "mAP": "map", "mIoU": "miou"}


def located(found: Tensor, mask: Tensor) -> Result:
    """Pixels by true and found class, and the average precision, of one image.

    Args:
        found: the map [1, 1, H, W].
        mask: bool, of the image in its own size; it is brought to that of the map.
    """
    values = found[:, 0].cpu()
    truth = F.interpolate(mask[None, None].float(), size=values.shape[1:], mode="nearest-exact")[0] > 0.5
    return {
        "confusion": localization_confusion(values, truth)[0].tolist(),
        "precision": float(localization_average_precision(values, truth)),
    }


def of_located(images: Sequence[Result]) -> dict[str, Interval]:
    """Pixel accuracy, mAP and mIoU in percent, out of what was kept of every image.

    Example:
        >>> found = of_located([{"confusion": [[3, 0], [0, 1]], "precision": 0.5}])
        >>> {metric: each.mean for metric, each in found.items()}
        {'pixel accuracy': 100.0, 'mAP': 50.0, 'mIoU': 100.0}
    """
    score = LocalizationScore()
    score.confusions.append(torch.tensor([each["confusion"] for each in images]))
    score.precisions.append(torch.tensor([each["precision"] for each in images], dtype=torch.float64))
    scores = score.intervals()
    return {metric: percent(scores[name]) for metric, name in _METRICS.items()}
