"""Faithfulness of class explanations written out: one image, one pixel, one step at a time, plain lists, float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from sklearn.metrics import average_precision_score
from torch import Tensor

__all__ = ["average_precision", "changed_image", "localization", "pixel_order", "trapezoid", "walk"]


def pixel_order(relevance: Tensor, ascending: bool) -> list[tuple[int, int]]:
    """Pixels of a map [H, W] in the order in which they are changed; of equals, the first row by row."""
    pixels = [(row, column) for row in range(relevance.shape[0]) for column in range(relevance.shape[1])]
    sign = 1 if ascending else -1
    return sorted(pixels, key=lambda place: sign * float(relevance[place]))  # sorted() keeps the order of equals


def changed_image(
    image: Tensor, order: Sequence[tuple[int, int]], step: float, black: Sequence[float], insert: bool
) -> Tensor:
    """[C, H, W] with the first pixels black, or with all others black."""
    count = math.floor(step * len(order) + 0.5)
    result = image.clone()
    for place, (row, column) in enumerate(order):
        if (place < count) != insert:
            for channel, value in enumerate(black):
                result[channel, row, column] = value
    return result


def walk(
    scores: Callable[[Tensor], Tensor], image: Tensor, relevance: Tensor, steps: Sequence[float], target: int,
    black: Sequence[float], *, ascending: bool = False, insert: bool = False,
) -> tuple[list[int], list[float]]:  # fmt: skip
    """Predicted class and ln p of the target at every step.

    Args:
        scores: an image [1, C, H, W] -> logits [1, K].
    """
    order = pixel_order(relevance, ascending)
    predicted, log_probability = [], []
    for step in steps:
        with torch.no_grad():
            logits = [float(each) for each in scores(changed_image(image, order, step, black, insert)[None])[0]]
        highest = max(logits)
        predicted.append(logits.index(highest))
        total = sum(math.exp(each - highest) for each in logits)
        log_probability.append(logits[target] - highest - math.log(total))
    return predicted, log_probability


def trapezoid(values: Sequence[float], steps: Sequence[float]) -> float:
    return sum((values[i] + values[i + 1]) / 2 * (steps[i + 1] - steps[i]) for i in range(len(steps) - 1))


def localization(maps: Sequence[Tensor], masks: Sequence[Tensor]) -> dict[str, float]:
    """Pixel accuracy, mIoU and mAP of maps [H, W] and masks [H, W], pixel by pixel."""
    shared, found, true, right, pixels = [0, 0], [0, 0], [0, 0], 0, 0
    for relevance, mask in zip(maps, masks, strict=True):
        values = [float(each) for each in relevance.flatten()]
        mean = math.fsum(values) / len(values)
        for value, truth in zip(values, mask.flatten().tolist(), strict=True):
            predicted = int(value > mean and len(set(values)) > 1)
            found[predicted] += 1
            true[int(truth)] += 1
            pixels += 1
            if predicted == int(truth):
                shared[predicted] += 1
                right += 1
    unions = [found[c] + true[c] - shared[c] for c in (0, 1)]
    ious = [shared[c] / unions[c] for c in (0, 1) if unions[c]]
    precisions = [average_precision(relevance, mask) for relevance, mask in zip(maps, masks, strict=True)]
    return {
        "pixel_accuracy": right / pixels,
        "miou": sum(ious) / len(ious),
        "map": sum(precisions) / len(precisions),
    }


def average_precision(relevance: Tensor, mask: Tensor) -> float:
    """scikit-learn's, of [1 - S, S] against the one-hot mask."""
    values = relevance.double().numpy()
    span = values.max() - values.min()
    scaled = (values - values.min()) / span if span > 0 else np.zeros_like(values)
    truth = mask.numpy()
    return float(average_precision_score(np.stack([~truth, truth]).ravel(), np.stack([1 - scaled, scaled]).ravel()))
