"""The classifier of scenes: plain, small, shipped, and right because of the object."""

import json
from importlib import resources

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from captum_ultra import LatentTokenAttribution
from captum_ultra.data import WEAVES, ObjectScenes, render_object_scene
from captum_ultra.models.loader import load_model
from captum_ultra.models.vit import scenes_vit
from captum_ultra.models.vit_classifier import (
    ViTClassifier,
    ViTClassifierConfig,
    load_vit_classifier,
    scenes_classifier,
)

WEIGHTS = resources.files("captum_ultra.models") / "weights" / "scenes_classifier.safetensors"
SMALL = ViTClassifierConfig(image_size=16, dim=16, depth=2, heads=2)


trained = pytest.mark.skipif(not WEIGHTS.is_file(), reason="the weights are not part of this checkout")


@pytest.fixture(scope="module")
def model():
    return scenes_classifier(pretrained=WEIGHTS.is_file())


def test_the_classes_are_those_of_the_scenes() -> None:
    assert ViTClassifierConfig().classes == WEAVES


def guesses(model, images):
    with torch.no_grad():
        return model(model.preprocess(torch.stack(images))).argmax(1).tolist()


@trained
def test_it_is_small_and_finite(model):
    with resources.as_file(WEIGHTS) as path:
        assert path.stat().st_size < 4e6
    assert sum(p.numel() for p in model.parameters()) < 3e6
    assert all(p.isfinite().all() for p in model.parameters())
    assert not model.training


@trained
def test_the_file_says_how_it_was_trained():
    with resources.as_file(WEIGHTS) as path, safe_open(str(path), framework="pt") as file:
        training = json.loads(file.metadata()["training"])
    assert training["minutes"] > 0 and training["steps_done"] == training["steps"]


@trained
def test_it_names_the_hues_of_held_out_scenes(model):
    scenes = [ObjectScenes(60, seed=3)[index] for index in range(60)]
    right = sum(
        guess == scene.label for guess, scene in zip(guesses(model, [s.image for s in scenes]), scenes, strict=True)
    )
    assert right >= 54


@trained
def test_the_answer_follows_the_object_and_nothing_else(model):
    """All other pixels being the same, the object is woven anew; and the answer follows."""
    for index in range(4):
        woven = [render_object_scene(7, index, weave=weave) for weave in WEAVES]
        found = guesses(model, [scene.image for scene in woven])
        assert sum(guess == scene.label for guess, scene in zip(found, woven, strict=True)) >= 4


def test_what_others_rely_on(model):
    assert model.num_prefix_tokens == 1 and model.num_classes == 6 and model.classes == WEAVES
    assert (model.image_size, model.patch_size, len(model.blocks)) == (64, 4, 6)
    x = torch.zeros(2, 3, 64, 64)
    assert model(x).shape == (2, 6)
    assert model.forward_features(x).shape == (2, 257, model.config.dim)


def test_the_logits_are_read_off_the_class_token():
    torch.manual_seed(0)
    model = ViTClassifier(SMALL).eval()
    x = torch.randn(2, 3, 16, 16)
    tokens = model.forward_features(x)
    torch.testing.assert_close(model(x), model.head(tokens[:, 0]))
    assert LatentTokenAttribution(model).attribute(x, token=0, output="patches").shape == (2, 16)


@trained
def test_by_name_it_comes_with_its_classes_and_preprocessing(model):
    loaded = load_model("scenes-classifier")
    assert loaded.kind == "image" and loaded.classes == WEAVES
    for name, value in model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[name], value)
    assert load_model("scenes-vit").classes == ()


@trained
def test_pretrained_false_is_the_same_architecture_untrained(model):
    random = scenes_classifier(pretrained=False)
    assert random.config == model.config and not random.training
    assert not torch.equal(model.head.weight, random.head.weight)


def test_it_fits_the_denoiser_it_started_from(model):
    """Patch embedding, positions and blocks have the shapes of the denoiser's."""
    own, other = model.state_dict(), scenes_vit().state_dict()
    shared = [name for name in other if not name.startswith("head.")]
    assert {name for name in own if name not in shared} == {"cls_token", "head.weight", "head.bias"}
    assert all(own[name].shape == other[name].shape for name in shared)


def test_a_file_brings_its_configuration_back(tmp_path):
    import dataclasses

    config = dataclasses.replace(SMALL, classes=("a", "b"))
    model = ViTClassifier(config)
    path = tmp_path / "small.safetensors"
    save_file(model.state_dict(), path, {"config": json.dumps(dataclasses.asdict(config))})
    again = load_vit_classifier(path)
    assert again.config == config and again.classes == ("a", "b") and not again.training
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)


def test_untrained_by_name_it_comes_with_its_classes_and_preprocessing():
    loaded = load_model("scenes-classifier", pretrained=False)
    assert loaded.kind == "image" and loaded.classes == WEAVES and not loaded.model.training
    assert load_model("scenes-vit").classes == ()


def test_wrong_configurations_and_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="cls_token"):
        ViTClassifier(ViTClassifierConfig(cls_token=False))
    with pytest.raises(ValueError, match="classes"):
        ViTClassifier(ViTClassifierConfig(classes=()))
    with pytest.raises(FileNotFoundError, match=r"training/scenes_classifier\.py"):
        load_vit_classifier(tmp_path / "absent.safetensors")
