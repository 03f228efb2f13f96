"""Scenes with one object: always the same, and nothing but the two hues that meet in it tells the class."""

import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ultra.data import WEAVES, ObjectScenes, Scenes, render_object_scene
from captum_ultra.data.scenes import SPLITS

SEEDS = st.integers(0, 2**31)


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, index=SEEDS, split=st.sampled_from(SPLITS), size=st.sampled_from([32, 64]))
def test_a_scene_holds_one_object_in_sight(seed, index, split, size):
    scene = render_object_scene(seed, index, size, split=split)
    assert scene.image.shape == (3, size, size) and scene.image.dtype == torch.float32
    assert scene.image.min() >= 0 and scene.image.max() <= 1
    assert scene.mask.shape == (size, size) and scene.mask.dtype == torch.bool
    assert WEAVES[scene.label] == scene.name
    assert 0.03 < scene.mask.double().mean() < 0.3


@settings(max_examples=40, deadline=None)
@given(seed=SEEDS, index=SEEDS, first=st.sampled_from(WEAVES), second=st.sampled_from(WEAVES))
def test_another_class_changes_no_pixel_outside_the_object(seed, index, first, second):
    one, other = (render_object_scene(seed, index, weave=weave) for weave in (first, second))
    assert torch.equal(one.mask, other.mask)
    assert torch.equal(one.image[:, ~one.mask], other.image[:, ~one.mask])
    assert (one.name, other.name) == (first, second)
    assert first == second or not torch.equal(one.image, other.image)


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS, index=SEEDS)
def test_without_its_object_a_scene_is_the_same_for_every_class(seed, index):
    full = render_object_scene(seed, index)
    empty = [render_object_scene(seed, index, weave=weave, present=False) for weave in WEAVES]
    assert all(torch.equal(scene.image, empty[0].image) for scene in empty)
    assert not empty[0].mask.any()
    assert torch.equal(full.image[:, ~full.mask], empty[0].image[:, ~full.mask])
    assert (full.image != empty[0].image).any(0)[full.mask].double().mean() > 0.9


def test_the_class_drawn_is_the_class_asked_for():
    for index in range(12):
        scene = render_object_scene(5, index)
        again = render_object_scene(5, index, weave=scene.name)
        assert torch.equal(scene.image, again.image) and torch.equal(scene.mask, again.mask)


def test_a_scene_does_not_depend_on_order_or_process():
    scenes = ObjectScenes(6, seed=3)
    backwards = [scenes[index].image for index in reversed(range(6))][::-1]
    for index, image in enumerate(backwards):
        assert torch.equal(image, render_object_scene(3, index).image)
    code = "from captum_ultra.data import ObjectScenes; print(ObjectScenes(6, seed=3)[5].image.double().sum().item())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(other) == backwards[5].double().sum().item()


def test_seeds_indices_splits_and_other_scenes_differ():
    images = [
        ObjectScenes(2, seed, split=split)[index].image for seed in (0, 1) for index in (0, 1) for split in SPLITS
    ]
    images += [Scenes(2, seed)[index].image for seed in (0, 1) for index in (0, 1)]
    for a in range(len(images)):
        for b in range(a):
            assert not torch.allclose(images[a], images[b], atol=0.1)


@pytest.fixture(scope="module")
def many():
    scenes = ObjectScenes(1200, seed=11)
    return [scenes[index] for index in range(len(scenes))]


def test_classes_are_balanced(many):
    counts = torch.bincount(torch.tensor([scene.label for scene in many]), minlength=len(WEAVES))
    expected = len(many) / len(WEAVES)
    assert ((counts - expected).abs() < 4 * expected**0.5).all()


def test_place_size_and_surroundings_do_not_tell_the_class(many):
    """A linear probe on the object's centre and area and on the colours beside it is at chance on other scenes."""
    centres = (torch.arange(64) + 0.5) / 64
    features = []
    for scene in many:
        rest, share = scene.image[:, ~scene.mask], scene.mask.double()
        row, column = (share.sum(1) * centres).sum() / share.sum(), (share.sum(0) * centres).sum() / share.sum()
        histograms = [torch.histc(channel, 8, 0, 1) / channel.numel() for channel in rest]
        features.append(torch.cat([rest.std(1), *histograms, torch.stack([row, column, share.mean()])]))
    assert probe(torch.stack(features), many) < chance_at_most(len(many) // 2)


def test_the_object_does_tell_the_class(many):
    """The probe can succeed: on the object's own colours it is far above chance."""
    features = []
    for scene in many:
        inside = scene.image[:, scene.mask]
        features.append(torch.cat([inside.mean(1), inside.std(1), torch.cov(inside).flatten()]))
    assert probe(torch.stack(features), many) > 0.6


def test_distractors_have_the_outlines_and_sizes_of_objects(many):
    """Both come from one function; areas agree in the mean, and an object is no rounder than a distractor."""
    areas = torch.tensor([scene.mask.double().mean() for scene in many])
    assert 0.11 < areas.mean() < 0.15 and areas.min() > 0.03 and areas.max() < 0.3


def probe(features: torch.Tensor, scenes) -> float:
    """Accuracy on the second half of a ridge regression to one-hot classes, fitted on the first."""
    x, y = features.double(), torch.tensor([scene.label for scene in scenes])
    half = len(x) // 2
    x = (x - x[:half].mean(0)) / x[:half].std(0).clamp_min(1e-9)
    x = torch.cat([x, x**2, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    fit = x[:half].T @ x[:half] + torch.eye(x.shape[1], dtype=x.dtype)
    weights = torch.linalg.solve(fit, x[:half].T @ F.one_hot(y[:half], len(WEAVES)).double())
    return ((x[half:] @ weights).argmax(1) == y[half:]).double().mean().item()


def chance_at_most(count: int) -> float:
    share = 1 / len(WEAVES)
    return share + 3.5 * (share * (1 - share) / count) ** 0.5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "negative"),
        ({"index": -1}, "negative"),
        ({"size": 8}, "16 x 16"),
        ({"split": "test"}, "'train', 'held_out'"),
        ({"weave": "red-red"}, "'red-red'.*'red-green'"),
        ({"distractors": (3, 2)}, "fewest"),
        ({"distractors": (-1, 2)}, "at least 0"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        render_object_scene(**({"seed": 0, "index": 0} | arguments))


def test_bad_stretches_are_named():
    with pytest.raises(ValueError, match="length"):
        ObjectScenes(0)
    with pytest.raises(ValueError, match="split"):
        ObjectScenes(1, split="test")
    with pytest.raises(IndexError, match="scene 4 of 4"):
        ObjectScenes(4)[4]
    assert len(list(ObjectScenes(3))) == 3
