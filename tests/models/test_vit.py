"""The shipped ViT: small, whole, and a denoiser."""

import json
from importlib import resources

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from captum_ultra import LatentTokenAttribution
from captum_ultra.data import Scenes
from captum_ultra.models.vit import VisionTransformer, ViTConfig, load_vit, scenes_vit

WEIGHTS = resources.files("captum_ultra.models") / "weights" / "scenes_vit.safetensors"


def test_it_is_small_and_finite():
    with resources.as_file(WEIGHTS) as path:
        assert path.stat().st_size < 8e6
    model = scenes_vit()
    assert sum(p.numel() for p in model.parameters()) < 3e6
    assert all(p.isfinite().all() for p in model.parameters())
    assert not model.training


def test_the_file_says_how_it_was_trained():
    with resources.as_file(WEIGHTS) as path, safe_open(str(path), framework="pt") as file:
        training = json.loads(file.metadata()["training"])
    assert training["minutes"] > 0 and training["steps_done"] == training["steps"]


def test_shapes():
    model = scenes_vit()
    x = model.preprocess(Scenes(2)[1].image[None])
    assert model(x).shape == (1, 3, 64, 64)
    assert model.forward_features(x).shape == (1, 256, model.config.dim)
    assert torch.allclose(model.postprocess(x)[0], Scenes(2)[1].image, atol=1e-6)


@pytest.mark.parametrize("deviation", [0.5, 1.0, 3.0])
def test_it_denoises_held_out_scenes(deviation):
    """Far better than leaving the noise, and than one mean colour for the whole image."""
    model = scenes_vit()
    scenes = Scenes(16, seed=5)
    clean = model.preprocess(torch.stack([scene.image for scene in scenes]))
    noise = deviation * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        error = (model(clean + noise) - clean).square().mean()
    assert error < 0.5 * noise.square().mean()
    assert error < 0.6 * clean.var((2, 3)).mean()


def test_pretrained_false_is_the_same_architecture_untrained():
    trained, random = scenes_vit(), scenes_vit(pretrained=False)
    assert trained.config == random.config and not random.training
    assert not torch.equal(trained.head.weight, random.head.weight)


def test_a_class_token_is_optional_and_comes_first():
    torch.manual_seed(0)
    model = VisionTransformer(ViTConfig(image_size=16, dim=16, depth=2, heads=2, cls_token=True)).eval()
    x = torch.randn(2, 3, 16, 16)
    assert model(x).shape == x.shape
    assert model.forward_features(x).shape == (2, 17, 16)
    explain = LatentTokenAttribution(model)
    assert explain.attribute(x, token="all", output="tokens").shape == (2, 17, 17)
    assert explain.attribute(x, token="patches").shape == (2, 16, 16, 16)


def test_patches_keep_their_places():
    """The head's patches fold back to where they came from."""
    model = VisionTransformer(ViTConfig(image_size=16, dim=16, depth=1, heads=2)).eval()
    x = torch.randn(1, 3, 16, 16, requires_grad=True)
    features = model.forward_features(x)
    folded = model(x)
    (gradient,) = torch.autograd.grad(folded[0, :, 4:8, 8:12].sum(), model.head.weight, retain_graph=True)
    (expected,) = torch.autograd.grad(model.head(features)[0, 6].sum(), model.head.weight)
    assert torch.allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "message"), [((3, 64, 64), r"image\[None\]"), ((1, 3, 32, 32), "64"), ((1, 1, 64, 64), "64")]
)
def test_wrong_inputs_are_named(shape, message):
    with pytest.raises(ValueError, match=message):
        VisionTransformer(ViTConfig(dim=16, depth=1, heads=2))(torch.zeros(shape))


def test_wrong_sizes_and_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="heads"):
        VisionTransformer(ViTConfig(dim=16, heads=3))
    with pytest.raises(ValueError, match="patch_size"):
        VisionTransformer(ViTConfig(image_size=30))
    with pytest.raises(ValueError, match="multiple of 4"):
        VisionTransformer(ViTConfig(dim=18, heads=2))
    with pytest.raises(FileNotFoundError, match=r"training/scenes_vit\.py"):
        load_vit(tmp_path / "absent.safetensors")
    save_file({"x": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="config"):
        load_vit(tmp_path / "other.safetensors")
