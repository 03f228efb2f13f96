"""U.ACC and U.mIoU against all matches tried one by one, and as a torchmetric."""

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_ultra.metrics import MatchedSegmentation
from captum_ultra.metrics.matching import class_confusion, contingency, match_clusters
from tests.reference import segmentation as reference

IGNORE = 255


def random_pair(seed: int, shape: tuple[int, int, int], clusters: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, clusters, shape, generator=generator)
    target = torch.randint(0, classes, shape, generator=generator)
    # Related, so that a match means something; some pixels are void.
    target = torch.where(torch.rand(shape, generator=generator) < 0.5, labels % classes, target)
    return labels, target.masked_fill(torch.rand(shape, generator=generator) < 0.1, IGNORE)


def same(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, value in found.items():
        torch.testing.assert_close(value, expected[name], rtol=0, atol=0, equal_nan=True)


batches = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 6))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), shape=batches, clusters=st.integers(1, 5), classes=st.integers(1, 4))
def test_image_protocol(seed: int, shape: tuple[int, int, int], clusters: int, classes: int) -> None:
    labels, target = random_pair(seed, shape, clusters, classes)
    pairs, per_image = [], []
    for each, true in zip(labels, target, strict=True):
        pixels = reference.pixels_of(each, true, IGNORE)
        if not pixels:
            continue
        matches = reference.best_match(pixels)
        assume(len(matches) == 1)
        image = [(matches[0].get(cluster), name) for cluster, name in pixels]
        ious = reference.accuracy_and_iou(image)[1]
        per_image.append(sum(ious.values()) / len(ious))
        pairs += image
    assume(pairs)
    accuracy, ious = reference.accuracy_and_iou(pairs)
    found = MatchedSegmentation(protocol="image")(labels, target)
    assert float(found["accuracy"]) == pytest.approx(accuracy)
    assert float(found["miou"]) == pytest.approx(sum(ious.values()) / len(ious))
    assert float(found["image_miou"]) == pytest.approx(sum(per_image) / len(per_image))


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 10**6), shape=batches, clusters=st.integers(1, 5), classes=st.integers(1, 4))
def test_dataset_protocol(seed: int, shape: tuple[int, int, int], clusters: int, classes: int) -> None:
    labels, target = random_pair(seed, shape, clusters, classes)
    pixels = reference.pixels_of(labels, target, IGNORE)
    assume(pixels)
    matches = reference.best_match(pixels)
    assume(len(matches) == 1)
    accuracy, ious = reference.accuracy_and_iou([(matches[0].get(cluster), true) for cluster, true in pixels])
    found = MatchedSegmentation(protocol="dataset")(labels, target)
    assert found.keys() == {"accuracy", "miou"}
    assert float(found["accuracy"]) == pytest.approx(accuracy)
    assert float(found["miou"]) == pytest.approx(sum(ious.values()) / len(ious))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), clusters=st.integers(1, 6), classes=st.integers(1, 6))
def test_the_match_shares_as_many_pixels_as_any(seed: int, clusters: int, classes: int) -> None:
    labels, target = random_pair(seed, (1, 3, 5), clusters, classes)
    pixels = reference.pixels_of(labels, target, IGNORE)
    assume(pixels)
    table = contingency(labels, target, clusters, classes, IGNORE)
    match = match_clusters(table)
    shared = sum(match[cluster] == true for cluster, true in pixels)
    (best, *_) = reference.best_match(pixels)
    assert shared == sum(best.get(cluster) == true for cluster, true in pixels)
    chosen = match[match >= 0]
    assert len(chosen.unique()) == len(chosen)
    assert int(class_confusion(table, match).sum()) == len(pixels)


@pytest.mark.parametrize("protocol", ["image", "dataset"])
def test_names_of_clusters_do_not_matter_and_perfection_is_one(protocol: str) -> None:
    target = torch.randint(0, 5, (4, 6, 6))
    target[:, 0] = IGNORE
    renamed = torch.randperm(5)[target.clamp(max=4)]
    found = MatchedSegmentation(protocol=protocol)(renamed, target)
    assert all(float(value) == 1 for value in found.values())
    labels, target = random_pair(0, (4, 6, 6), 5, 4)
    first, second = MatchedSegmentation(protocol=protocol), MatchedSegmentation(protocol=protocol)
    same(first(torch.randperm(5)[labels], target), second(labels, target))


def test_the_protocols_differ_where_names_change_from_image_to_image() -> None:
    target = torch.tensor([[[0, 0, 1, 1]], [[0, 0, 1, 1]]])
    labels = torch.tensor([[[0, 0, 1, 1]], [[1, 1, 0, 0]]])
    assert MatchedSegmentation(protocol="image")(labels, target)["miou"] == 1
    assert MatchedSegmentation(protocol="dataset")(labels, target)["accuracy"] == 0.5


def test_more_clusters_than_classes_and_fewer() -> None:
    more = MatchedSegmentation()(torch.tensor([[[0, 0, 1, 2]]]), torch.tensor([[[3, 3, 3, 4]]]))
    assert float(more["accuracy"]) == 0.75 and float(more["miou"]) == pytest.approx((2 / 3 + 1) / 2)
    fewer = MatchedSegmentation()(torch.zeros(1, 1, 4, dtype=torch.long), torch.tensor([[[3, 3, 3, 4]]]))
    assert float(fewer["accuracy"]) == 0.75 and float(fewer["miou"]) == pytest.approx(0.75 / 2)


def test_ignored_pixels_do_not_take_part_in_the_match() -> None:
    labels = torch.tensor([[[0, 0, 0, 1, 1, 0]]])
    target = torch.tensor([[[IGNORE, IGNORE, IGNORE, 0, 0, 1]]])
    assert MatchedSegmentation()(labels, target)["miou"] == 1
    with pytest.raises(ValueError, match="255"):
        MatchedSegmentation(ignore_index=None, num_classes=3)(labels, target)


def test_images_of_void_and_nothing_at_all() -> None:
    metric = MatchedSegmentation()
    void = torch.full((1, 2, 2), IGNORE)
    assert all(value.isnan() for value in metric(torch.zeros_like(void), void).values())
    metric(torch.zeros_like(void), torch.ones_like(void))
    assert all(float(value) == 1 for value in metric.compute().values())


@pytest.mark.parametrize("protocol", ["image", "dataset"])
def test_batches_merge_and_more_room_changes_nothing(protocol: str) -> None:
    labels, target = random_pair(3, (6, 5, 7), 5, 4)
    whole, parts = (MatchedSegmentation(protocol=protocol) for _ in range(2))
    narrow = MatchedSegmentation(protocol=protocol, num_classes=4, num_clusters=5)
    same(whole(labels, target), narrow(labels, target))
    for each, true in zip(labels.split(2), target.split(2), strict=True):
        parts.update(each, true)
    same(parts.compute(), whole.compute())
    for each, true in zip(labels.split(4), target.split(4), strict=True):
        parts(each, true)
    parts.reset()
    parts.update(labels, target)
    same(parts.compute(), whole.compute())


@pytest.mark.parametrize("protocol", ["image", "dataset"])
def test_two_processes_see_what_one_sees(protocol: str) -> None:
    """States are gathered as torchmetrics does on two ranks; one of them saw no image at all."""
    labels, target = random_pair(4, (4, 5, 5), 4, 4)
    for shares in ((slice(0, 3), slice(3, 4)), (slice(0, 4), slice(0, 0))):
        ranks = [MatchedSegmentation(protocol=protocol) for _ in shares]
        for metric, share in zip(ranks, shares, strict=True):
            if len(labels[share]):
                metric.update(labels[share], target[share])
        names = iter(ranks[0]._defaults)

        def gather(state: Tensor, group: Any = None, ranks: Any = ranks, names: Any = names) -> list[Tensor]:
            name = next(names)
            return [getattr(each, name) for each in ranks]

        ranks[0]._sync_dist(gather)
        whole = MatchedSegmentation(protocol=protocol)
        same(ranks[0].compute(), whole(labels, target))


def test_pickling_and_moving() -> None:
    labels, target = random_pair(5, (2, 5, 5), 4, 4)
    metric = MatchedSegmentation(protocol="image", num_classes=4)
    metric.update(labels, target)
    again = pickle.loads(pickle.dumps(metric))
    same(again.compute(), metric.compute())
    again.half().update(labels, target)
    same(again.compute(), metric.compute())
    for kind in (torch.uint8, torch.int16, torch.int32):
        same(
            MatchedSegmentation()(labels.to(kind), target.to(kind) if kind != torch.int8 else target), metric.compute()
        )


@pytest.mark.parametrize(
    ("labels", "target", "error", "words"),
    [
        (torch.zeros(1, 2, 2), torch.zeros(1, 2, 2, dtype=torch.long), TypeError, "labels must hold integers"),
        (torch.zeros(1, 2, 2, dtype=torch.long), torch.zeros(1, 2, 2).bool(), TypeError, "target must hold integers"),
        (torch.zeros(2, 2, dtype=torch.long), torch.zeros(2, 2, dtype=torch.long), ValueError, "one shape"),
        (torch.zeros(1, 2, 2, dtype=torch.long), torch.zeros(1, 4, 4, dtype=torch.long), ValueError, "enlarge"),
        (torch.full((1, 2, 2), -1), torch.zeros(1, 2, 2, dtype=torch.long), ValueError, "labels holds values from -1"),
        (torch.zeros(1, 2, 2, dtype=torch.long), torch.full((1, 2, 2), 300), ValueError, "0..255, or the ignored 255"),
    ],
)
def test_bad_labels_change_nothing(labels: Tensor, target: Tensor, error: type[Exception], words: str) -> None:
    metric = MatchedSegmentation()
    with pytest.raises(error, match=words):
        metric.update(labels, target)
    assert not metric.counts.any()


@pytest.mark.parametrize("arguments", [{"protocol": "images"}, {"num_classes": 0}, {"num_clusters": 0}])
def test_bad_arguments(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(arguments))):
        MatchedSegmentation(**arguments)


def test_a_missing_library_is_named() -> None:
    code = "import sys; sys.modules['torchmetrics'] = None; import captum_ultra.metrics"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert (
        "MissingExtraError: torchmetrics is not installed; pip install 'captum_ultra[segmentation]'" in process.stderr
    )
