"""Resize and centre crop: held against torchvision, and labels stay labels."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from captum_ultra.data.transforms import ResizeCrop, image_tensor


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(3, 40), width=st.integers(3, 40), size=st.integers(1, 30),
    interpolation=st.sampled_from(["bilinear", "bicubic", "nearest"]),
)  # fmt: skip
def test_as_torchvision_does_it(height: int, width: int, size: int, interpolation: str) -> None:
    from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Resize

    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    labels = rng.integers(0, 256, (height, width), dtype=np.uint8)
    found_image, found_labels = ResizeCrop(size, interpolation)(image, labels)
    peer = Compose([Resize(size, InterpolationMode(interpolation)), CenterCrop(size)])
    nearest = Compose([Resize(size, InterpolationMode.NEAREST), CenterCrop(size)])
    assert np.array_equal(np.asarray(found_image), np.asarray(peer(image)))
    assert np.array_equal(found_labels, np.asarray(nearest(Image.fromarray(labels))))


def test_pixels_become_floats() -> None:
    image = Image.fromarray(np.array([[[0, 51, 255]]], dtype=np.uint8))
    assert image_tensor(image).flatten().tolist() == pytest.approx([0, 0.2, 1])


def test_arguments() -> None:
    with pytest.raises(ValueError, match="size is 0"):
        ResizeCrop(0)
    with pytest.raises(ValueError, match="'bilinear', 'bicubic', 'nearest'"):
        ResizeCrop(8, "lanczos")
