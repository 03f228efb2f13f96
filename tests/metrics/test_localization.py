"""LocalizationScore against loops over pixels and scikit-learn, and as a torchmetric."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_ultra.metrics import LocalizationScore
from captum_ultra.metrics.localization import localization_average_precision, localization_confusion
from tests.reference import class_faithfulness as reference


def random_case(seed: int, size: tuple[int, int], levels: int = 1000, count: int = 3) -> tuple[Tensor, Tensor]:
    """Maps with ties where ``levels`` are few; of such values sums are exact, so that no rounding moves the mean."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randint(0, levels, (count, *size), generator=generator).double() / 1024 - 0.25
    return maps, torch.rand(count, *size, generator=generator) < torch.rand((), generator=generator)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    levels=st.sampled_from((1, 2, 5, 1000)),
    count=st.integers(1, 4),
)
def test_against_loops(seed: int, size: tuple[int, int], levels: int, count: int) -> None:
    maps, masks = random_case(seed, size, levels, count)
    found = LocalizationScore()(maps, masks)
    expected = reference.localization(list(maps), list(masks))
    assert {name: value.item() for name, value in found.items()} == pytest.approx(expected, abs=1e-12)


def test_perfect_inverted_and_constant_maps() -> None:
    masks = torch.zeros(1, 4, 4).bool()
    masks[0, 1:3, 1:3] = True
    assert all(value == 1 for value in LocalizationScore()(masks.double(), masks).values())
    inverted = LocalizationScore()((~masks).double(), masks)
    assert inverted["pixel_accuracy"] == 0 and inverted["miou"] == 0
    constant = LocalizationScore()(torch.full((1, 4, 4), 0.3), masks)
    assert constant["pixel_accuracy"] == 0.75
    assert constant["miou"] == 0.375
    assert constant["map"] == pytest.approx(0.75**2 + 0.25 / 2)


def test_constant_maps_are_background_whatever_rounding_does_to_their_mean() -> None:
    masks = torch.zeros(1, 7, 7).bool()
    maps = [torch.full((1, 7, 7), number / 97, dtype=torch.float64) for number in range(97)]
    assert any((each > each.mean()).all() for each in maps)  # the danger is real
    assert all(localization_confusion(each, masks)[0, 0].tolist() == [49, 0] for each in maps)


def test_pixels_are_counted_over_the_set_and_not_by_image() -> None:
    maps, masks = random_case(3, (6, 6), count=4)
    masks[0], masks[1] = False, True
    metric = LocalizationScore()
    whole = metric(maps, masks)
    single = metric.per_image()
    assert single["miou"].mean().item() != pytest.approx(whole["miou"].item(), abs=1e-3)
    assert single["map"].mean() == whole["map"]
    for number in range(4):
        expected = reference.localization([maps[number]], [masks[number]])
        assert {name: value[number].item() for name, value in single.items()} == pytest.approx(expected)


def test_intervals_count_pixels_anew_in_every_draw() -> None:
    maps, masks = random_case(5, (5, 5), count=12)
    metric = LocalizationScore()
    metric.update(maps, masks)
    found = metric.intervals()
    for name, value in metric.compute().items():
        assert found[name].low < value.item() < found[name].high
        assert found[name].mean == pytest.approx(value.item())
    drawn = torch.randint(12, (2000, 12), generator=torch.Generator().manual_seed(0))[:400]
    loop = torch.stack([LocalizationScore()(maps[each], masks[each])["miou"] for each in drawn])
    low, high = torch.quantile(loop, torch.tensor([0.025, 0.975]).double()).tolist()
    assert found["miou"].low == pytest.approx(low, abs=0.02) and found["miou"].high == pytest.approx(high, abs=0.02)
    alone = LocalizationScore()
    alone.update(maps[:1], masks[:1])
    assert alone.intervals()["miou"].low != alone.intervals()["miou"].low


def test_batches_ranks_pickling_and_channels() -> None:
    maps, masks = random_case(1, (5, 7), count=4)
    whole = LocalizationScore()(maps[:, None], masks)
    ranks = [LocalizationScore() for _ in range(2)]
    for metric, share in zip(ranks, (slice(0, 1), slice(1, 4)), strict=True):
        for start in range(share.start, share.stop):
            metric.update(maps[start : start + 1], masks[start : start + 1])
    ranks[0] = pickle.loads(pickle.dumps(ranks[0]))
    names = iter(ranks[0]._defaults)

    def gather(state: Tensor, group: Any = None) -> list[Tensor]:
        name = next(names)
        return [torch.cat(getattr(each, name)) for each in ranks[1:]] + [state]

    ranks[0]._sync_dist(gather)
    torch.testing.assert_close(ranks[0].compute(), whole)
    assert len(ranks[0].per_image()["map"]) == 4


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_is_what_its_values_say(dtype: torch.dtype) -> None:
    maps, masks = random_case(2, (8, 8))
    low = maps.to(dtype)
    torch.testing.assert_close(LocalizationScore()(low, masks), LocalizationScore()(low.double(), masks))


def test_no_image_has_no_score() -> None:
    metric = LocalizationScore()
    with pytest.warns(UserWarning, match="before the ``update``"):
        assert all(value.isnan() for value in metric.compute().values())
    with pytest.raises(ValueError, match="no image"):
        metric.intervals()


@pytest.mark.parametrize(
    ("maps", "masks", "error", "words"),
    [
        (torch.rand(1, 4, 4), torch.zeros(1, 4, 4), TypeError, "masks must be bool"),
        (torch.ones(1, 4, 4).long(), torch.zeros(1, 4, 4).bool(), TypeError, "floating point"),
        (torch.rand(1, 2, 2), torch.zeros(1, 4, 4).bool(), ValueError, "enlarge the maps"),
        (torch.rand(1, 2, 4, 4), torch.zeros(1, 4, 4).bool(), ValueError, r"\[B, 1, H, W\]"),
        (torch.rand(4, 4), torch.zeros(4, 4).bool(), ValueError, r"\[B, H, W\]"),
        (torch.full((1, 4, 4), torch.nan), torch.zeros(1, 4, 4).bool(), ValueError, "not finite"),
    ],
)
def test_bad_input_changes_nothing(maps: Tensor, masks: Tensor, error: type[Exception], words: str) -> None:
    metric = LocalizationScore()
    for call in (metric.update, localization_confusion, localization_average_precision):
        with pytest.raises(error, match=words):
            call(maps, masks)
    assert metric.confusions == [] and metric.precisions == []
