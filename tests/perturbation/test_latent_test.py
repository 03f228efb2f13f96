"""The perturbation test: held against a loop that perturbs, runs and measures one patch set at a time."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor

from captum_ultra import LatentTokenAttribution
from captum_ultra.data import Scenes
from captum_ultra.models.vit import scenes_vit
from captum_ultra.perturbation.latent_result import LatentPerturbationResult
from captum_ultra.perturbation.latent_test import SWEEP, LatentPerturbationTest
from captum_ultra.perturbation.patches import Perturbation, perturb_patches
from captum_ultra.perturbation.seeds import seeded_generator
from tests.attr import models
from tests.builders import case_named

GRID, PATCHES = (4, 4), 16


def latents(model: torch.nn.Module, images: Tensor, layer: int) -> Tensor:
    """By a hook of the test's own."""
    seen = []
    handle = model.blocks[layer - 1].register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        model(images)
    handle.remove()
    return seen[0]


def slow(
    model: torch.nn.Module, image: Tensor, number: int, layer: int, fraction: float, tokens: int, mode: str, seed: int
) -> Tensor:
    """[3]: mean distances of one image, by order, one perturbed image at a time."""
    generator = seeded_generator(seed, number)
    chosen = torch.randperm(PATCHES, generator=generator)[:tokens].tolist()
    clean, distances = latents(model, image[None], layer), {"positive": [], "negative": [], "random": []}
    explain = LatentTokenAttribution(model)
    random_orders = [[p for p in torch.randperm(PATCHES, generator=generator).tolist() if p != own] for own in chosen]
    everywhere = Perturbation(mode)(image[None], generator)
    count = int(fraction * (PATCHES - 1) + 0.5)
    for own, shuffled in zip(chosen, random_orders, strict=True):
        relevance = explain.attribute(
            image[None], token=1 + own, layer=layer, score="sum", self_token="keep", output="patches"
        )[0]
        orders = {
            "positive": sorted(shuffled, key=lambda patch: -relevance[patch].item()),
            "negative": sorted(shuffled, key=lambda patch: relevance[patch].item()),
            "random": shuffled,
        }
        for order, patches in orders.items():
            changed = image[None].clone()
            for patch in patches[:count]:
                row, column = divmod(patch, GRID[1])
                part = (..., slice(4 * row, 4 * row + 4), slice(4 * column, 4 * column + 4))
                changed[part] = everywhere[part]
            moved = latents(model, changed, layer)[0, 1 + own].double() - clean[0, 1 + own].double()
            distances[order].append(moved.square().sum().sqrt())
    return torch.stack([torch.stack(values).mean() for values in distances.values()])


@pytest.mark.parametrize("mode", ["mask", "noise", "mean", "blur"])
@pytest.mark.parametrize(("layer", "fraction", "tokens"), [(3, 0.5, 3), (1, 0.1, 16), (2, 0.9, 1)])
def test_as_a_loop(mode: str, layer: int, fraction: float, tokens: int) -> None:
    model, images = models.vit(), models.images(3)
    test = LatentPerturbationTest(model, layer, fraction, tokens=tokens, mode=mode, seed=4, batch_size=7)
    found = test.run(images).distances[..., 0]
    expected = [slow(model, image, n, layer, fraction, tokens, mode, 4) for n, image in enumerate(images)]
    torch.testing.assert_close(found, torch.stack(expected), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "name",
    ["timm-vit-nonsquare", "timm-dinov2-registers", "hf-SiglipModel-image", "open_clip-clip-image", "torchvision-vit"],
)
def test_models_of_the_libraries(name: str) -> None:
    """The random order, followed by hand and read by the reference's own hooks."""
    case = case_named(name)
    model, image = case.model(), case.inputs()[:1]
    found = LatentPerturbationTest(model, tokens=1).run(image).distances[0, 2, 0]
    generator, count = seeded_generator(0, 0), case.grid[0] * case.grid[1]
    own = int(torch.randperm(count, generator=generator)[0])
    others = [patch for patch in torch.randperm(count, generator=generator).tolist() if patch != own]
    changed = perturb_patches(image, torch.tensor(others[: int(0.5 * (count - 1) + 0.5)]), case.grid)
    before, after = (case.record(model, each).latents[-1][0, case.prefix + own] for each in (image, changed))
    torch.testing.assert_close(found.float(), (before - after).norm().detach(), rtol=1e-4, atol=0)


def test_a_sweep_is_its_single_fractions_whatever_the_batches() -> None:
    model, images = models.vit(), models.images(2)
    sweep = LatentPerturbationTest(model, fraction=SWEEP, tokens=2, mode="noise").run(images)
    assert sweep.fractions == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    for index in (0, 4, 8):
        single = LatentPerturbationTest(model, fraction=SWEEP[index], tokens=2, mode="noise", batch_size=1).run(images)
        torch.testing.assert_close(sweep.distances[..., index], single.distances[..., 0], rtol=1e-5, atol=1e-6)


def test_an_image_does_not_depend_on_the_others() -> None:
    model, images = models.vit(), models.images(3)
    test = LatentPerturbationTest(model, tokens=3, mode="noise")
    whole = test.run(images).distances
    torch.testing.assert_close(test.measure(images[2], 2), whole[2], rtol=0, atol=0)
    assert not torch.equal(test.measure(images[2], 0), whole[2])
    torch.testing.assert_close(test.run(iter(images)).distances, whole, rtol=0, atol=0)


def test_other_seeds_draw_other_tokens() -> None:
    model, images = models.vit(), models.images()
    first, second = (LatentPerturbationTest(model, tokens=2, seed=seed).run(images).distances for seed in (0, 1))
    assert not torch.equal(first, second)


def test_the_own_patch_is_never_touched() -> None:
    """A model whose tokens hold nothing but their own patch does not move, however much is perturbed."""
    model, images = models.vit(), models.images()
    for block in model.blocks:
        torch.nn.init.zeros_(block.proj.weight)
    test = LatentPerturbationTest(model, fraction=0.9, tokens=None)
    with pytest.warns(UserWarning, match="the map is zero"):
        assert test.run(images).distances.abs().max() < 1e-6
    moved = latents(model, perturb_patches(images, torch.tensor([5]), GRID), 3) - latents(model, images, 3)
    assert moved[:, 6].norm(dim=-1).min() > 0.1


def test_model_and_random_state_are_left_as_found() -> None:
    model = models.vit().train()
    torch.manual_seed(7)
    expected = torch.rand(2)
    torch.manual_seed(7)
    LatentPerturbationTest(model, tokens=1, mode="noise").run(models.images())
    assert torch.equal(torch.rand(2), expected)
    assert model.training and all(parameter.requires_grad for parameter in model.parameters())


def test_relevant_patches_matter_more_on_scenes() -> None:
    """The claim of the test itself, on a trained model."""
    model, scenes = scenes_vit(), Scenes(3, seed=8)
    images = torch.stack([model.preprocess(scenes[index].image) for index in range(3)])
    result = LatentPerturbationTest(model, layer=4, score="energy", tokens=3).run(images)
    positive, negative, random = result.curve[:, 0].tolist()
    assert positive > random > negative


def test_results_as_numbers() -> None:
    distances = torch.rand(20, 3, 2, generator=torch.Generator().manual_seed(0)).double()
    distances[:, 0] += 1
    result = LatentPerturbationResult((0.2, 0.6), distances)
    torch.testing.assert_close(result.curve, distances.mean(0))
    torch.testing.assert_close(result.difference, (distances[:, 0] - distances[:, 1]).mean(0))
    assert result.area == pytest.approx(0.4 * result.difference.mean().item())
    for ends, mean in ((result.interval, result.curve), (result.difference_interval, result.difference)):
        assert (ends[0] < mean).all() and (mean < ends[1]).all()
    low, high = result.area_interval.tolist()
    assert low < result.area < high
    error = distances.std(0) / 20**0.5
    torch.testing.assert_close(result.interval[1] - result.interval[0], 2 * 1.96 * error, rtol=0.15, atol=0)
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain["images"] == 20 and plain["orders"]["positive"]["mean"] == result.curve[0].tolist()


def test_results_say_what_was_tested() -> None:
    perturbation = Perturbation("noise", deviation=0.2)
    test = LatentPerturbationTest(models.vit(), 2, score="energy", tokens=1, mode=perturbation, seed=5)
    plain = json.loads(json.dumps(test.run(models.images()).to_dict()))["settings"]
    assert (plain["layer"], plain["score"], plain["tokens"], plain["seed"]) == (2, "energy", 1, 5)
    assert plain["perturbation"]["mode"] == "noise" and plain["perturbation"]["deviation"] == 0.2


def test_one_image_has_no_interval_and_one_fraction_no_area() -> None:
    result = LatentPerturbationResult((0.5,), torch.rand(1, 3, 1).double())
    assert result.interval.isnan().all() and result.area is None and result.area_interval is None
    plain = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert plain["difference"]["interval"] is None and plain["area"] is None
    with pytest.raises(ValueError, match=r"\[N, 3, 2\]"):
        LatentPerturbationResult((0.5, 0.6), torch.rand(1, 3, 1))
    with pytest.raises(ValueError, match="confidence"):
        LatentPerturbationResult((0.5,), torch.rand(1, 3, 1), confidence=95)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"fraction": 1.0}, "between 0 and 1"),
        ({"fraction": ()}, "between 0 and 1"),
        ({"fraction": (0.5, 0.2)}, "must increase"),
        ({"tokens": 0}, "at least 1"),
        ({"mode": "black"}, "'mask', 'noise'"),
        ({"score": "norm"}, "'sum', 'energy'"),
        ({"layer": 0}, "holds its own patch alone"),
        ({"layer": 7}, "layer=7 does not exist"),
        ({"tokens": 17}, "has 16 patches"),
    ],
)
def test_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LatentPerturbationTest(models.vit(), **arguments).run(models.images())


def test_inputs() -> None:
    test = LatentPerturbationTest(models.vit())
    with pytest.raises(ValueError, match=r"an image must be \[C, H, W\]"):
        test.run(models.images()[0])
    with pytest.raises(ValueError, match="images is empty"):
        test.run([])


def test_the_layer_is_recorded_as_a_number_of_blocks() -> None:
    found = LatentPerturbationTest(models.vit(), layer=-1, tokens=1).run(models.images())
    assert found.settings is not None
    assert found.settings["layer"] == len(models.vit().blocks)
