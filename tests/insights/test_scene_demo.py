"""The demonstration: which tokens are chosen, which maps are drawn."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from captum_ultra import LatentTokenAttribution, ResidualLRP
from captum_ultra.attr.attribution import DEFAULT_SCORE
from captum_ultra.data.scenes import render_scene
from captum_ultra.insights.explain import patch_grid
from captum_ultra.insights.scene_demo import explain_scene, methods_figure, object_patches
from captum_ultra.models.vit import VisionTransformer, ViTConfig


@pytest.mark.parametrize("index", range(20))
def test_chosen_patches_lie_in_their_objects(index: int) -> None:
    scene = render_scene(seed=0, index=index)
    objects, patches = object_patches(scene, (16, 16), most=3)
    assert len(objects) == len(patches) == min(3, len(scene.names))
    for number, (row, column) in zip(objects, patches, strict=True):
        cell = scene.instances[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert (cell == number).float().mean() > 0.9


def test_the_largest_objects_are_chosen() -> None:
    scene = render_scene(seed=0, index=1)
    areas = scene.instances.flatten().bincount()[1:]
    objects, _ = object_patches(scene, (16, 16), most=2)
    assert sorted(areas[[number - 1 for number in objects]]) == sorted(areas.topk(2).values)


@pytest.mark.parametrize(("name", "method"), [("ultra", LatentTokenAttribution), ("residual", ResidualLRP)])
def test_maps_are_those_of_attribute(name: str, method: Any) -> None:
    model = VisionTransformer(ViTConfig(dim=16, depth=2, heads=2, cls_token=True)).eval()
    scene = render_scene(seed=0, index=2)
    found = explain_scene(model, scene, method=name, score="energy", tokens=2)
    inputs = model.preprocess(scene.image[None])
    for t, token in enumerate(found.tokens):
        for column, layer in enumerate(found.layers):
            alone = method(model).attribute(inputs, token=token, layer=layer, score="energy")[0, 0]
            torch.testing.assert_close(found.maps[t, column], alone, rtol=1e-4, atol=1e-6)
    assert found.layers == [1, 2] and found.names == [scene.names[number - 1] for number in found.objects]


@pytest.mark.parametrize(
    ("patches", "height", "width", "grid"), [(256, 64, 64, (16, 16)), (128, 64, 128, (8, 16)), (1, 8, 8, (1, 1))]
)
def test_patch_grid(patches: int, height: int, width: int, grid: tuple[int, int]) -> None:
    assert patch_grid(patches, height, width) == grid


@pytest.mark.parametrize(("patches", "height", "width"), [(7, 64, 64), (128, 64, 64), (4, 8, 1000)])
def test_patches_that_do_not_cover_the_input(patches: int, height: int, width: int) -> None:
    with pytest.raises(ValueError, match="do not cover"):
        patch_grid(patches, height, width)


def test_auc_is_that_of_each_map() -> None:
    from sklearn.metrics import roc_auc_score

    model = VisionTransformer(ViTConfig(dim=16, depth=2, heads=2)).eval()
    scene = render_scene(seed=0, index=4)
    found = explain_scene(model, scene, tokens=3)
    for number, maps, row in zip(found.objects, found.maps, found.auc.tolist(), strict=True):
        mask = (scene.instances == number).flatten()
        assert row == pytest.approx([roc_auc_score(mask, values.flatten()) for values in maps])


def test_several_methods_stand_side_by_side() -> None:
    model = VisionTransformer(ViTConfig(dim=16, depth=2, heads=2)).eval()
    scene = render_scene(seed=0, index=4)
    found = [explain_scene(model, scene, method=name, tokens=2, layers=[1]) for name in ("rollout", "residual")]
    axes = methods_figure(found).axes
    assert [each.get_title() for each in axes[:3]] == ["scene", "rollout", f"residual LRP\n{DEFAULT_SCORE} score"]
    assert [each.texts[0].get_text() for each in axes[4:6]] == [f"{each.auc[1, 0]:.3f}" for each in found]
