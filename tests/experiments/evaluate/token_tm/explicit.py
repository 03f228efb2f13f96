"""The protocols of the tables written out for one image after another, pixel by pixel, in numpy and scikit-learn."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import average_precision_score
from torch import nn

STEPS = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]


def scaled(patches: torch.Tensor, grid: int, side: int) -> np.ndarray:
    """Relevance of patches [1, P] -> map [side, side] in 0..1."""
    large = F.interpolate(patches.view(1, 1, grid, grid), size=(side, side), mode="bilinear")[0, 0].numpy()
    # In the maps' own precision: rounding makes ties, and ties are broken by place.
    return ((large - large.min()) / (large.max() - large.min())).astype(np.float64)


def located(maps: list[np.ndarray], masks: list[np.ndarray]) -> dict[str, float]:
    """Pixel accuracy, mAP and mIoU in percent over all images."""
    right = pixels = 0
    inter, union, precisions = [0, 0], [0, 0], []
    for found, mask in zip(maps, masks, strict=True):
        foreground = found > found.mean()
        right += int((foreground == mask).sum())
        pixels += mask.size
        for number, (guess, true) in enumerate(((~foreground, ~mask), (foreground, mask))):
            inter[number] += int((guess & true).sum())
            union[number] += int((guess | true).sum())
        scores, labels = np.stack([1 - found, found]).ravel(), np.stack([~mask, mask]).ravel()
        precisions.append(average_precision_score(labels, scores))
    miou = (inter[0] / union[0] + inter[1] / union[1]) / 2
    return {"pixel accuracy": 100 * right / pixels, "mAP": 100 * float(np.mean(precisions)), "mIoU": 100 * miou}


def blackened(image: torch.Tensor, found: np.ndarray, share: float, most_important_first: bool) -> torch.Tensor:
    """An image [3, H, W] in 0..1 without a share of its pixels, ties by their place."""
    values = found.ravel()
    order = sorted(range(values.size), key=lambda place: -values[place] if most_important_first else values[place])
    result = image.clone().view(3, -1)
    for place in order[: int(share * values.size + 0.5)]:
        result[:, place] = 0
    return result.view_as(image)


def logits_of(model: nn.Module, images: list[torch.Tensor]) -> torch.Tensor:
    """One image a run."""
    with torch.no_grad():
        return torch.cat([model(model.preprocess(image)[None]) for image in images]).double()


def trapezoid(values: list[float]) -> float:
    """The area under the curve over the steps."""
    return sum((a + b) / 2 * 0.1 for a, b in zip(values, values[1:]))  # noqa: RUF007, B905
