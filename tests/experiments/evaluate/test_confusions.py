"""Scores of stored confusions are those of the metric over all images; their intervals those of a loop."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ultra.experiments.evaluate.ultra.confusions import confusion_of
from captum_ultra.experiments.evaluate.ultra.set_scores import set_scores
from captum_ultra.metrics import MatchedSegmentation

CLASSES = 4
NAMES = {"U.ACC": "accuracy", "U.mIoU": "miou", "mean mIoU of an image": "image_miou"}


def random_images(seed: int, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    images = []
    for _ in range(count):
        target = torch.randint(CLASSES, (5, 6), generator=draw)
        target[torch.rand(5, 6, generator=draw) < 0.3] = 255
        images.append((torch.randint(7, (5, 6), generator=draw), target))
    images.append((torch.zeros(5, 6).long(), torch.full((5, 6), 255)))  # void throughout
    return images


@settings(deadline=None, max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 6))
def test_scores_are_those_of_the_metric(seed: int, count: int) -> None:
    metric, images = MatchedSegmentation(protocol="image"), random_images(seed, count)
    for labels, target in images:
        metric.update(labels[None], target[None])
    expected = metric.compute()
    found = set_scores([confusion_of(labels, target, CLASSES) for labels, target in images], CLASSES)
    for name, key in NAMES.items():
        assert found[name].mean == pytest.approx(float(expected[key]), abs=1e-12)


def test_intervals_are_those_of_images_drawn_again() -> None:
    """Each draw is a data set of its own, to which the metric's definition is applied by loops."""
    images = [confusion_of(*each, CLASSES) for each in random_images(3, 5)]
    counted = [each for each in images if each]
    drawn = torch.randint(len(counted), (2000, len(counted)), generator=torch.Generator().manual_seed(0))
    scores = [score_by_loops([counted[number] for number in draw]) for draw in drawn.tolist()]
    for name, values in zip(("U.ACC", "U.mIoU"), zip(*scores, strict=True), strict=True):
        ends = torch.tensor(values, dtype=torch.float64).quantile(torch.tensor([0.025, 0.975]).double())
        found = set_scores(images, CLASSES)[name]
        assert (found.low, found.high) == pytest.approx(ends.tolist(), abs=1e-12)


def score_by_loops(images: list) -> tuple[float, float]:
    pixels = [entry for image in images for entry in image]
    hits = [sum(n for true, found, n in pixels if true == found == c) for c in range(CLASSES)]
    unions = [sum(n for true, found, n in pixels if c in (true, found)) for c in range(CLASSES)]
    present = {true for true, _, _ in pixels}
    iou = [hits[c] / unions[c] for c in present]
    return sum(hits) / sum(n for _, _, n in pixels), sum(iou) / len(iou)


def test_nothing_to_count() -> None:
    with pytest.raises(ValueError, match="none of 2 images has a pixel that counts"):
        set_scores([[], []], CLASSES)
    assert math.isnan(set_scores([[[0, 0, 1]]], 1)["U.ACC"].low)
