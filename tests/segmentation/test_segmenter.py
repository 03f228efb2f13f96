"""The segmenter on real model classes, and what it leaves behind."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from captum_ultra import LatentTokenAttribution, ResidualLRP, UnsupportedModelError
from captum_ultra.attr.attribution import TokenAttribution
from captum_ultra.attr.latents import LatentReader
from captum_ultra.attr.methods import find_method
from captum_ultra.data import Scenes
from captum_ultra.models.vit import VisionTransformer, ViTConfig, scenes_vit
from captum_ultra.segmentation import LatentTokenSegmenter, Segmentation, SegmentationRule, gt_unique, segment_maps
from captum_ultra.segmentation.landmarks import latent_landmarks


def small_vit(cls_token: bool = True) -> VisionTransformer:
    return VisionTransformer(ViTConfig(image_size=32, dim=16, depth=3, heads=2, cls_token=cls_token)).eval()


IMAGES = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("score", ["sum", "energy", torch.ones(16)])
def test_it_is_the_attribution_of_all_patches_and_then_the_clustering(score: Any) -> None:
    model = small_vit()
    maps = LatentTokenAttribution(model).attribute(IMAGES, token="patches", layer=2, score=score, output="patches")
    expected = segment_maps(maps.view(2, 64, 8, 8), n_clusters=4, rule=SegmentationRule(size=(32, 32)))
    found = LatentTokenSegmenter(model, 2, score, n_clusters=4).segment(IMAGES)
    torch.testing.assert_close(found.labels, expected)
    assert found.maps.shape == (2, 64, 8, 8)


@pytest.mark.parametrize(
    ("method", "choices"), [("residual", {"gamma": 1.0}), (ResidualLRP, {}), ("rollout", {}), ("raw_attention", {})]
)
def test_maps_of_other_methods_are_clustered_as_they_are(method: Any, choices: dict[str, Any]) -> None:
    model = small_vit()
    explain = (find_method(method) if isinstance(method, str) else method)(model)
    maps = explain.attribute(IMAGES, token="patches", layer=2, score="sum", output="patches", **choices)
    assert bool((maps < 0).any()) == explain.needs_class
    expected = segment_maps(maps.view(2, 64, 8, 8), n_clusters=4, rule=SegmentationRule(size=(32, 32)))
    found = LatentTokenSegmenter(model, 2, n_clusters=4, method=method, attribution=choices).segment(IMAGES)
    torch.testing.assert_close(found.labels, expected)


def test_clusters_of_the_grid_are_those_of_the_enlarged_maps() -> None:
    """The paper's letter: every map enlarged by itself, then clustered."""
    model = small_vit()
    explain = LatentTokenAttribution(model)
    large = explain.attribute(IMAGES, token="patches", layer=-1, score="sum")
    found = LatentTokenSegmenter(model, n_clusters=5).segment(IMAGES)
    torch.testing.assert_close(found.labels, segment_maps(large, n_clusters=5))


def test_a_call_may_cut_elsewhere() -> None:
    segmenter = LatentTokenSegmenter(small_vit(), n_clusters=2)
    own = segmenter.segment(IMAGES)
    assert str(own.made_by) == "k = 2"
    for cut in ({"n_clusters": [3, 4]}, {"threshold": 0.1}):
        torch.testing.assert_close(segmenter.segment(IMAGES, **cut).labels, own.cut(**cut).labels)
    assert str(LatentTokenSegmenter(small_vit(), threshold=0.3).segment(IMAGES).made_by) == "cut at distance 0.3"


def test_batch_equals_loop_and_chunks_equal_the_whole() -> None:
    model = small_vit()
    whole = LatentTokenSegmenter(model, n_clusters=4).segment(IMAGES)
    chunked = LatentTokenSegmenter(model, n_clusters=4, attribution={"internal_batch_size": 7}).segment(IMAGES)
    torch.testing.assert_close(chunked.labels, whole.labels)
    for image, labels in zip(IMAGES, whole.labels, strict=True):
        torch.testing.assert_close(LatentTokenSegmenter(model, n_clusters=4).segment(image[None]).labels[0], labels)


def test_prefix_and_non_square_grids() -> None:
    timm = pytest.importorskip("timm")
    model = timm.create_model("test_vit", img_size=(64, 96), num_classes=3).eval()
    found = LatentTokenSegmenter(model, n_clusters=3).segment(torch.randn(1, 3, 64, 96))
    assert found.maps.shape == (1, 24, 4, 6) and found.labels.shape == (1, 64, 96)


def test_the_model_is_left_as_found() -> None:
    model = small_vit().train()
    model.blocks[0].requires_grad_(False)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    grads = [each.requires_grad for each in model.parameters()]
    segmenter = LatentTokenSegmenter(model, n_clusters=3)
    for arguments, outcome in (({}, nullcontext()), ({"n_clusters": 500}, pytest.raises(ValueError))):
        with outcome:
            segmenter.segment(IMAGES, **arguments)
        assert model.training and [each.requires_grad for each in model.parameters()] == grads
        assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
        assert not any(each._forward_hooks or each._forward_pre_hooks for each in model.modules())
        assert all(each.grad is None for each in model.parameters())


def test_maps_without_anything_are_refused_for_their_reason() -> None:
    torch.manual_seed(0)
    model = VisionTransformer(ViTConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
    images = torch.randn(1, 3, 16, 16)
    with pytest.warns(UserWarning, match="map is zero"), pytest.raises(ValueError, match=r"layer=0: .* after a block"):
        LatentTokenSegmenter(model, layer=-3).segment(images)
    with torch.no_grad():
        model.blocks[0].attn.proj.weight.zero_()  # type: ignore[union-attr, index]
    refused = pytest.raises(ValueError, match=r"layer=1: .* depends on no other token: take another layer, score or")
    with pytest.warns(UserWarning, match="map is zero"), refused:
        LatentTokenSegmenter(model, layer=1).segment(images)
    LatentTokenSegmenter(model, layer=2).segment(images)
    LatentTokenSegmenter(model, layer=1, method="rollout").segment(images)


def test_landmarks_stand_for_tokens_with_like_latents() -> None:
    model = small_vit()
    whole = LatentTokenSegmenter(model, 2, n_clusters=3).segment(IMAGES)
    found = LatentTokenSegmenter(model, 2, n_clusters=3, landmarks=16).segment(IMAGES)
    latents = LatentReader(model, 2)(IMAGES)[:, 1:]
    for index in range(2):
        chosen, assigned = latent_landmarks(latents[index], 16)
        torch.testing.assert_close(found.maps[index], whole.maps[index, chosen])
        spread = whole.maps[index, chosen][assigned][None]
        expected = Segmentation.of(spread, n_clusters=3, rule=SegmentationRule(size=(32, 32)))
        torch.testing.assert_close(found.labels[index], expected.labels[0])
        torch.testing.assert_close(found.token_labels[index], expected.token_labels[0])
    everything = LatentTokenSegmenter(model, 2, n_clusters=3, landmarks=1000).segment(IMAGES)
    torch.testing.assert_close(everything.labels, whole.labels)
    with pytest.raises(ValueError, match="at most 16"):
        LatentTokenSegmenter(model, 2, n_clusters=17, landmarks=16).segment(IMAGES)


@settings(max_examples=30, deadline=None)
@given(tokens=st.integers(1, 30), share=st.floats(0, 1), seed=st.integers(0, 10**6))
def test_landmarks_are_the_middles_of_their_groups(tokens: int, share: float, seed: int) -> None:
    latents = torch.randn(tokens, 5, generator=torch.Generator().manual_seed(seed))
    number = max(1, round(share * tokens))
    chosen, assigned = latent_landmarks(latents, number)
    assert chosen.tolist() == sorted(set(chosen.tolist())) and len(chosen) == number
    torch.testing.assert_close(assigned[chosen], torch.arange(number))
    units = (latents / latents.norm(dim=-1, keepdim=True)).double()
    for place, landmark in enumerate(chosen.tolist()):
        group = (assigned == place).nonzero().flatten().tolist()
        distances = [float((units[each] - units[group].mean(0)).norm()) for each in group]
        assert distances[group.index(landmark)] == pytest.approx(min(distances))


def test_planted_groups_of_latents_are_found() -> None:
    latents = torch.eye(3).repeat_interleave(torch.tensor([5, 9, 2]), 0) * torch.rand(16, 1).add(1)
    _, assigned = latent_landmarks(latents + 0.01 * torch.randn(16, 3), 3)
    assert assigned.tolist() == [0] * 5 + [1] * 9 + [2] * 2
    with pytest.raises(ValueError, match="1 to 16"):
        latent_landmarks(latents, 17)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"n_clusters": 0}, "at least one"),
        ({"threshold": -1.0}, "no distance"),
        ({"landmarks": 1}, "at least 2"),
        ({"attribution": {"layer": 3}}, "decided by the segmenter"),
    ],
)
def test_bad_arguments_before_the_model_runs(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LatentTokenSegmenter(nn.Identity(), **arguments)


def test_what_cannot_be_segmented() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="take a layer after a block"):
            LatentTokenSegmenter(small_vit(), layer=0, n_clusters=2).segment(IMAGES)
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True)
    text = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    with pytest.raises(ValueError, match=r"\[B, C, H, W\]"):
        LatentTokenSegmenter(text, n_clusters=2).segment(torch.randn(1, 5, 16))
    with pytest.raises(UnsupportedModelError):
        LatentTokenSegmenter(nn.Conv2d(3, 3, 1)).segment(IMAGES)


def test_k_and_batch_are_checked_before_the_long_computation(monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = LatentTokenSegmenter(small_vit(), n_clusters=3)
    monkeypatch.setattr(TokenAttribution, "attribute", lambda *_, **__: pytest.fail("the model was explained"))
    with pytest.raises(ValueError, match="at most 64"):
        segmenter.segment(IMAGES, n_clusters=65)
    with pytest.raises(ValueError, match="3 numbers for 2 images"):
        segmenter.segment(IMAGES, n_clusters=[2, 2, 2])


@pytest.mark.slow
def test_scenes_are_segmented_better_than_by_their_colours() -> None:
    from scipy.cluster.vq import kmeans2

    from captum_ultra.metrics import MatchedSegmentation

    model, scenes = scenes_vit(), Scenes(3, seed=100)
    images = torch.stack([scenes[index].image for index in range(3)])
    target = torch.stack([scenes[index].instances for index in range(3)])
    counts = gt_unique(target)
    found = LatentTokenSegmenter(model, score="energy").segment(model.preprocess(images), n_clusters=counts)
    colours = [
        torch.from_numpy(kmeans2(image.flatten(1).T.numpy(), k, minit="++", seed=0)[1]).view(64, 64)
        for image, k in zip(images, counts, strict=True)
    ]
    ours, control = MatchedSegmentation(), MatchedSegmentation()
    value, chance = ours(found.labels, target)["image_miou"], control(torch.stack(colours), target)["image_miou"]
    assert value > 0.55 and value > chance + 0.1
    assert found.labels.shape == target.shape and not F.one_hot(found.labels).amax() > 1
