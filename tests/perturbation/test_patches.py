"""Perturbed patches: held against loops over patches; other pixels are untouched; batch = loop."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter
from torch import Tensor

from captum_ultra.perturbation.patches import MODES, Perturbation, patch_mask, perturb_patches


def images_of(batch: int = 3, height: int = 8, width: int = 12, seed: int = 0) -> Tensor:
    return torch.randn(batch, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def by_loops(images: Tensor, patches: list[list[int]], grid: tuple[int, int], everywhere: Tensor) -> Tensor:
    """Patch by patch, written out."""
    result = images.clone()
    high, wide = images.shape[2] // grid[0], images.shape[3] // grid[1]
    for sample, numbers in enumerate(patches):
        for number in numbers:
            row, column = divmod(number, grid[1])
            rows, columns = slice(row * high, (row + 1) * high), slice(column * wide, (column + 1) * wide)
            result[sample, :, rows, columns] = everywhere[sample, :, rows, columns]
    return result


@settings(max_examples=40, deadline=None)
@given(data=st.data(), mode=st.sampled_from(sorted(MODES)))
def test_as_a_loop_over_patches(data: st.DataObject, mode: str) -> None:
    rows, columns, high, wide = (data.draw(st.integers(1, 4)) for _ in range(4))
    count = rows * columns
    patches = [data.draw(st.sets(st.integers(0, count - 1)).map(sorted)) for _ in range(2)]
    images = images_of(2, rows * high, columns * wide)
    mask = torch.zeros(2, count, dtype=torch.bool)
    for sample, numbers in enumerate(patches):
        mask[sample, numbers] = True
    found = perturb_patches(images, mask, (rows, columns), mode, generator=torch.Generator().manual_seed(3), blur=1.0)
    everywhere = Perturbation(mode, blur=1.0)(images, torch.Generator().manual_seed(3))
    assert torch.equal(found, by_loops(images, patches, (rows, columns), everywhere))


@pytest.mark.parametrize("mode", sorted(MODES))
def test_a_batch_is_a_loop(mode: str) -> None:
    images, patches = images_of(), torch.tensor([[0, 5], [1, 2], [3, 3]])
    whole = perturb_patches(images, patches, (2, 3), mode, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    for sample in range(3):
        one = perturb_patches(images[sample : sample + 1], patches[sample], (2, 3), mode, generator=generator)
        torch.testing.assert_close(whole[sample : sample + 1], one, rtol=0, atol=1e-12)


@pytest.mark.parametrize("mode", sorted(MODES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_dtype_stays_and_nothing_changes_in_place(mode: str, dtype: torch.dtype) -> None:
    images = images_of().to(dtype)
    before = images.clone()
    found = perturb_patches(images, torch.tensor([1]), (2, 3), mode)
    assert found.dtype == dtype and torch.equal(images, before)
    assert not torch.equal(found, images)


def test_indices_and_masks_mean_the_same() -> None:
    images = images_of()
    mask = torch.zeros(3, 6, dtype=torch.bool)
    mask[:, [1, 4]] = True
    expected = perturb_patches(images, mask, (2, 3))
    for patches in (mask[0], torch.tensor([4, 1]), torch.tensor([[1, 4]]), torch.tensor([[1, 4]] * 3)):
        assert torch.equal(perturb_patches(images, patches, (2, 3)), expected)
    assert torch.equal(perturb_patches(images, torch.tensor([], dtype=torch.long), (2, 3)), images)


def test_a_mask_is_zero_or_black() -> None:
    images, everything = images_of(), torch.ones(6, dtype=torch.bool)
    assert not perturb_patches(images, everything, (2, 3)).any()
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
    black = perturb_patches(images, everything, (2, 3), black=(mean, std))
    pixels = black * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
    torch.testing.assert_close(pixels, torch.zeros_like(pixels), rtol=0, atol=1e-7)


def test_noise_has_its_deviation_and_its_seed() -> None:
    images, everything = images_of(4, 64, 96), torch.ones(6, dtype=torch.bool)
    noise = perturb_patches(images, everything, (2, 3), "noise", generator=torch.Generator().manual_seed(0)) - images
    assert noise.std().item() == pytest.approx(0.3, rel=0.02) and abs(noise.mean().item()) < 0.005
    again = perturb_patches(images, everything, (2, 3), "noise", generator=torch.Generator().manual_seed(0)) - images
    assert torch.equal(noise, again) and not torch.equal(noise[0], noise[1])


def test_mean_colour_is_that_of_the_image() -> None:
    images = images_of()
    found = perturb_patches(images, torch.tensor([0]), (2, 3), "mean")
    torch.testing.assert_close(found[1, :, 0, 0], images[1].flatten(1).mean(1))


@pytest.mark.parametrize("deviation", [0.4, 1.0, 2.5])
def test_blur_is_scipys(deviation: float) -> None:
    images = images_of(2, 9, 14)
    found = Perturbation("blur", blur=deviation)(images)
    radius = max(1, round(4 * deviation))
    expected = gaussian_filter(images.numpy(), deviation, mode="nearest", radius=radius, axes=(2, 3))
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)


def test_a_margin_belongs_to_no_patch() -> None:
    mask = patch_mask(torch.ones(6, dtype=torch.bool), (2, 3), (9, 14), (4, 4))
    assert mask[:8, :12].all() and mask.sum() == 8 * 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"mode": "black"}, "'mask', 'noise', 'mean', 'blur'"),
        ({"grid": (3, 3)}, r"mask of 6 entries for a grid of 9"),
        ({"patches": torch.tensor([6])}, r"6 \.\. 6 must be among 0 \.\. 5"),
        ({"patches": torch.tensor([-1])}, r"-1 \.\. -1 must be"),
        ({"patches": torch.tensor([0.5])}, r"indices or a boolean mask"),
        ({"patches": torch.zeros(2, 6, dtype=torch.bool)}, r"patches of shape \[2, 6\] for 3 images"),
        ({"images": torch.zeros(3, 8, 12)}, r"\[B, C, H, W\]"),
        ({"images": torch.zeros(3, 3, 9, 12)}, r"9 x 12 pixels are no multiple.*patch_size="),
        ({"patch_size": (5, 4)}, r"2 x 3 patches of 5 x 4 pixels do not fit into 8 x 12"),
        ({"deviation": 0.0}, "must be positive"),
        ({"black": ((0, 0, 0), (1, 1, 1)), "mode": "noise"}, 'says what mode="mask" puts in'),
        ({"black": ((0,), (1,))}, "one number for each of the 3 channels"),
    ],
)
def test_arguments(arguments: dict, message: str) -> None:
    defaults = {"images": images_of(), "patches": torch.ones(6, dtype=torch.bool), "grid": (2, 3)}
    with pytest.raises(ValueError, match=message):
        perturb_patches(**(defaults | arguments))
