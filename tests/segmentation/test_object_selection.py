"""Object masks: eq. 14 by loops; each map has its own scale; a flat map shows nothing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_ultra.segmentation.object_selection import object_mask


def by_loops(heat: Tensor, threshold: float) -> list[list[bool]]:
    values = heat.flatten().tolist()
    low, high = min(values), max(values)
    return [[high > low and (value - low) / (high - low) >= threshold for value in row] for row in heat.tolist()]


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=2, max_size=4), threshold=st.floats(0, 1), seed=st.integers(0, 99),
    flat=st.booleans(),
)  # fmt: skip
def test_as_the_equation(shape: list[int], threshold: float, seed: int, flat: bool) -> None:
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    maps = maps * 0 + 3 if flat else maps
    found = object_mask(maps, threshold)
    assert found.dtype == torch.bool and found.shape == maps.shape
    for mask, heat in zip(found.view(-1, *shape[-2:]), maps.view(-1, *shape[-2:]), strict=True):
        assert mask.tolist() == by_loops(heat, threshold)


def test_scale_and_shift_do_not_matter() -> None:
    maps = torch.rand(2, 3, 5, 5)
    assert torch.equal(object_mask(maps), object_mask(7 * maps - 2))


def test_the_ends() -> None:
    heat = torch.tensor([[0.0, 0.2], [0.6, 1.0]])
    assert object_mask(heat, 0).all()
    assert object_mask(heat, 1).tolist() == [[False, False], [False, True]]
    assert object_mask(heat).sum() == 3  # 0.2 itself belongs to the object


@pytest.mark.parametrize("threshold", [-0.1, 1.1, float("nan")])
def test_thresholds_outside_the_scale(threshold: float) -> None:
    with pytest.raises(ValueError, match="must lie there"):
        object_mask(torch.rand(3, 3), threshold)


@pytest.mark.parametrize(
    "maps", [torch.rand(3), torch.ones(3, 3, dtype=torch.long), torch.rand(0, 3, 3), torch.full((2, 2), torch.inf)]
)
def test_what_is_no_map(maps: Tensor) -> None:
    with pytest.raises(ValueError, match="maps"):
        object_mask(maps)
