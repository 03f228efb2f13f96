"""Scenes: always the same, masks exact, nothing but the outline tells the class."""

import math
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ultra.data import SHAPES, Scenes, render_scene
from captum_ultra.data.scenes import SPLITS
from captum_ultra.data.shapes import OUTLINES


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31), index=st.integers(0, 2**31), split=st.sampled_from(SPLITS))
def test_masks_are_consistent(seed, index, split):
    scene = render_scene(seed, index, split=split)
    assert scene.image.shape == (3, 64, 64) and scene.image.dtype == torch.float32
    assert scene.image.min() >= 0 and scene.image.max() <= 1
    assert scene.labels.dtype == scene.instances.dtype == torch.int64
    assert 1 <= len(scene.names) <= 5
    assert torch.equal(scene.labels == 0, scene.instances == 0)
    assert scene.instances.unique().tolist() == list(range(len(scene.names) + 1))
    for k, name in enumerate(scene.names, start=1):
        assert set(scene.labels[scene.instances == k].tolist()) == {1 + SHAPES.index(name)}


def test_a_scene_does_not_depend_on_order_or_process():
    scenes = Scenes(6, seed=3)
    backwards = [scenes[index].image for index in reversed(range(6))][::-1]
    for index, image in enumerate(backwards):
        assert torch.equal(image, render_scene(3, index).image)
    code = "from captum_ultra.data import render_scene; print(render_scene(3, 5).image.double().sum().item())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(other) == backwards[5].double().sum().item()


def test_seeds_indices_and_splits_give_different_scenes():
    images = [render_scene(seed, index, split=split).image for seed in (0, 1) for index in (0, 1) for split in SPLITS]
    for a in range(len(images)):
        for b in range(a):
            assert not torch.allclose(images[a], images[b], atol=0.1)


def test_every_pixel_of_an_object_lies_within_its_outline():
    """With one object nothing is hidden: the mask is the outline, turned, somewhere."""
    for index in range(30):
        scene = render_scene(0, index, 96, objects=(1, 1), radius=(0.2, 0.2))
        area = (scene.instances == 1).double().mean().item() / 0.2**2
        grid = np.linspace(-1, 1, 401, dtype=np.float32)
        whole = 4 * OUTLINES[scene.names[0]](grid[None, :], grid[:, None]).mean()
        assert area <= whole * 1.05


@pytest.mark.parametrize(
    ("name", "area"),
    [
        ("disk", math.pi * 0.81),
        ("square", 1.4**2),
        ("triangle", 3 * math.sqrt(3) / 4),
        ("star", 5 * 0.5 * math.sin(math.pi / 5)),
        ("ring", math.pi * (0.9025 - 0.16)),
        ("cross", 4 * 0.68 * 0.94 - 0.68**2),
    ],
)
def test_outlines_have_the_area_of_their_shape_and_fit_the_unit_disk(name, area):
    step = 2 / 1000
    grid = np.arange(-1, 1, step, dtype=np.float32) + step / 2
    u, v = np.broadcast_arrays(grid[None, :], grid[:, None])
    inside = OUTLINES[name](u, v)
    assert inside.sum() * step**2 == pytest.approx(area, rel=0.01)
    assert np.hypot(u, v)[inside].max() <= 1.01


def test_colours_and_textures_do_not_tell_the_class():
    """A nearest-class-mean rule on mean colour and contrast stays at chance, on held-out scenes."""
    features, classes = [], []
    for scene in (render_scene(11, index) for index in range(500)):
        for k in range(len(scene.names) + 1):
            pixels = scene.image[:, scene.instances == k]
            features.append(torch.cat([pixels.mean(1), pixels.std(1)]))
            classes.append(0 if k == 0 else 1 + SHAPES.index(scene.names[k - 1]))
    x, y = torch.stack(features), torch.tensor(classes)
    half = len(x) // 2
    x = (x - x[:half].mean(0)) / x[:half].std(0)
    objects = y > 0
    means = torch.stack([x[:half][y[:half] == c].mean(0) for c in range(1, len(SHAPES) + 1)])
    guess = 1 + torch.cdist(x[half:], means).argmin(1)
    right = (guess == y[half:])[objects[half:]].double()
    assert abs(right.mean() - 1 / len(SHAPES)) < 4 * (1 / len(SHAPES) / len(right)) ** 0.5
    # The mean colour of the background is that of the objects, in distribution.
    gap = (x[objects, :3].mean(0) - x[~objects, :3].mean(0)).abs()
    assert (gap < 4 * (1 / objects.sum() + 1 / (~objects).sum()).sqrt()).all()


def test_noise_is_seeded_and_of_the_given_size():
    noisy, clean = Scenes(2, noise=0.5)[1], Scenes(2)[1]
    assert torch.equal(noisy.image, Scenes(9, noise=0.5)[1].image)
    assert torch.equal(noisy.instances, clean.instances)
    assert (noisy.image - clean.image).std().item() == pytest.approx(0.5, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "negative"),
        ({"index": -1}, "negative"),
        ({"size": 8}, "16 x 16"),
        ({"split": "test"}, "'train', 'held_out'"),
        ({"objects": (3, 2)}, "fewest"),
        ({"radius": (0.0, 0.2)}, "radius"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_scene(**({"seed": 0, "index": 0} | arguments))


def test_bad_stretches_are_named():
    with pytest.raises(ValueError, match="length"):
        Scenes(0)
    with pytest.raises(ValueError, match="noise"):
        Scenes(1, noise=-0.1)
    with pytest.raises(IndexError, match="scene 4 of 4"):
        Scenes(4)[4]
    assert len(list(Scenes(3))) == 3
