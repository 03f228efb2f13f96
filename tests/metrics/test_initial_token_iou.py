"""ITIoU against loops over patches and pixels, and as a torchmetric."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_ultra.metrics import InitialTokenIoU, initial_token_iou
from tests.reference import segmentation as reference

VOID = 255


def random_case(seed: int, grid: tuple[int, int], size: tuple[int, int], classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, classes, size, generator=generator)
    target = target.masked_fill(torch.rand(size, generator=generator) < 0.2, VOID)
    masks = torch.rand(grid[0] * grid[1], *size, generator=generator) < 0.4
    return masks, target


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    grid=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    more=st.tuples(st.integers(0, 6), st.integers(0, 6)),
    classes=st.integers(1, 4),
    ignore=st.sampled_from((VOID, None)),
)
def test_one_image(seed: int, grid: tuple[int, int], more: tuple[int, int], classes: int, ignore: int | None) -> None:
    masks, target = random_case(seed, grid, (grid[0] + more[0], grid[1] + more[1]), classes)
    found = float(initial_token_iou(masks, target, grid, ignore))
    assert found == pytest.approx(reference.initial_token_iou(masks, target, grid, ignore), nan_ok=True)


def test_the_masks_of_the_classes_are_perfect() -> None:
    target = torch.tensor([[0, 1], [7, 7]]).repeat_interleave(3, 0).repeat_interleave(3, 1)
    masks = torch.stack([target == name for name in (0, 1, 7, 7)])
    assert InitialTokenIoU()(masks[None], target[None]) == 1
    assert InitialTokenIoU()(~masks[None], target[None]) == 0


def test_classes_weigh_alike_whatever_their_tokens() -> None:
    target = torch.tensor([[0, 0, 0, 1]])
    masks = torch.stack([target == 0, target == 0, target == 0, target == 0])
    assert initial_token_iou(masks, target, (1, 4)) == 0.5


def test_images_weigh_alike_and_void_ones_are_left_out() -> None:
    metric = InitialTokenIoU(grid=(2, 2))
    cases = [random_case(seed, (2, 2), (6, 6), 3) for seed in range(3)]
    masks, target = (torch.stack(each) for each in zip(*cases, strict=True))
    metric.update(torch.cat([masks, masks[:1]]), torch.cat([target, torch.full_like(target[:1], VOID)]))
    expected = [reference.initial_token_iou(*case, (2, 2), VOID) for case in cases]
    assert float(metric.compute()) == pytest.approx(sum(expected) / 3)
    assert InitialTokenIoU(grid=(2, 2))(masks[:1], torch.full_like(target[:1], VOID)).isnan()
    assert math.isnan(reference.initial_token_iou(masks[0], torch.full_like(target[0], VOID), (2, 2), VOID))


def test_maps_become_masks_where_they_reach_the_threshold() -> None:
    maps = torch.rand(2, 4, 2, 2)
    target = torch.randint(0, 3, (2, 8, 8))
    large = torch.nn.functional.interpolate(maps, size=(8, 8), mode="bilinear")
    low, high = large.amin((2, 3), keepdim=True), large.amax((2, 3), keepdim=True)
    for threshold in (0.2, 0.6):
        masks = (large - low) / (high - low) >= threshold
        found = InitialTokenIoU(threshold=threshold)(maps, target)
        torch.testing.assert_close(found, InitialTokenIoU()(masks, target))


def test_batches_ranks_and_pickling() -> None:
    cases = [random_case(seed, (2, 2), (6, 6), 3) for seed in range(4)]
    masks, target = (torch.stack(each) for each in zip(*cases, strict=True))
    whole = InitialTokenIoU()(masks, target)
    ranks = [InitialTokenIoU() for _ in range(2)]
    for metric, share in zip(ranks, (slice(0, 1), slice(1, 4)), strict=True):
        metric.update(masks[share], target[share])
    ranks[0] = pickle.loads(pickle.dumps(ranks[0]))
    names = iter(ranks[0]._defaults)

    def gather(state: Tensor, group: Any = None) -> list[Tensor]:
        name = next(names)
        return [getattr(each, name) for each in ranks]

    ranks[0]._sync_dist(gather)
    torch.testing.assert_close(ranks[0].compute(), whole)


@pytest.mark.parametrize(
    ("maps", "target", "grid", "error", "words"),
    [
        (torch.rand(1, 3, 4, 4), torch.zeros(1, 4, 4).long(), None, ValueError, "give the grid"),
        (torch.rand(4, 4, 4), torch.zeros(4, 4).long(), None, ValueError, r"\[B, T, H, W\]"),
        (torch.zeros(1, 4, 4, 4).long(), torch.zeros(1, 4, 4).long(), None, TypeError, "floating point"),
        (torch.rand(1, 4, 4, 4), torch.zeros(1, 4, 4), None, TypeError, "integers"),
        (torch.rand(2, 4, 4, 4), torch.zeros(1, 4, 4).long(), None, ValueError, "2 images"),
        (torch.ones(1, 4, 4, 4).bool(), torch.zeros(1, 8, 8).long(), None, ValueError, r"\[T, H, W\]"),
        (torch.ones(1, 4, 1, 1).bool(), torch.zeros(1, 1, 1).long(), (2, 2), ValueError, "finer"),
    ],
)
def test_bad_input_changes_nothing(
    maps: Tensor, target: Tensor, grid: tuple[int, int] | None, error: type[Exception], words: str
) -> None:
    metric = InitialTokenIoU(grid=grid)
    with pytest.raises(error, match=words):
        metric.update(maps, target)
    assert metric.images == 0
