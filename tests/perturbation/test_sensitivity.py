"""Max-sensitivity against a loop over images and samples, for every kind of explanation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from captum.attr import InputXGradient
from torch import Tensor, nn

from captum_ultra import GenericAttention, LatentTokenAttribution
from captum_ultra.perturbation import max_sensitivity
from captum_ultra.perturbation.seeds import seeded_generator
from tests.attr import models


def slow(explain: Any, inputs: Tensor, radius: float, samples: int, seed: int, targets: Tensor, **arguments: Any):
    """One image and one sample of noise at a time."""
    values = []
    for number, image in enumerate(inputs):
        generator = seeded_generator(seed, number)
        target = targets[number : number + 1]
        clean = explain.attribute(image[None], target=target, **arguments).detach().double()
        found = []
        for _ in range(samples):
            noise = (2 * torch.rand(image.shape, generator=generator) - 1) * radius
            moved = explain.attribute((image + noise)[None], target=target, **arguments).detach().double()
            found.append((moved - clean).square().sum().sqrt() / clean.square().sum().sqrt())
        values.append(max(found))
    return torch.stack(values)


def network() -> InputXGradient:
    return InputXGradient(nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)))


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
@pytest.mark.parametrize("together", [None, 3, 7, 1000])
@pytest.mark.parametrize("samples", [1, 5])
def test_captum_as_a_loop(together: int | None, samples: int) -> None:
    explain, inputs, target = network(), torch.randn(3, 6), torch.tensor([0, 2, 1])
    found = max_sensitivity(
        explain, inputs, perturb_radius=0.1, n_perturb_samples=samples, seed=4, internal_batch_size=together,
        target=target,
    )  # fmt: skip
    torch.testing.assert_close(found.values, slow(explain, inputs, 0.1, samples, 4, target), rtol=1e-4, atol=1e-6)


def test_latent_tokens_as_a_loop() -> None:
    model, inputs, tokens = models.vit(), models.images(2), torch.tensor([3, 7])
    explain, block = LatentTokenAttribution(model), model.blocks[1]
    found = max_sensitivity(
        explain, inputs, perturb_radius=0.2, n_perturb_samples=3, target=tokens, layer=block, self_token="zero"
    )
    expected = slow(explain, inputs, 0.2, 3, 0, tokens, layer=2, self_token="zero")
    torch.testing.assert_close(found.values, expected, rtol=1e-3, atol=1e-6)
    assert found.interval.low <= found.interval.mean <= found.interval.high and found.values.min() > 0


def test_classes_as_a_loop() -> None:
    from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig

    model = ViTClassifier(ViTClassifierConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
    inputs, target = torch.randn(2, 3, 16, 16), torch.tensor([1, 4])
    explain = GenericAttention(model)
    found = max_sensitivity(explain, inputs, perturb_radius=0.3, n_perturb_samples=3, target=target)
    torch.testing.assert_close(found.values, slow(explain, inputs, 0.3, 3, 0, target), rtol=1e-3, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Input Tensor 0 did not already require gradients")
def test_an_image_does_not_depend_on_the_others_or_on_the_global_seed() -> None:
    explain, inputs = network(), torch.randn(3, 6)
    state = torch.random.get_rng_state()
    whole = max_sensitivity(explain, inputs, target=1).values
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.testing.assert_close(max_sensitivity(explain, inputs[2:], target=1, first=2).values, whole[2:])
    assert not torch.allclose(max_sensitivity(explain, inputs, target=1, seed=1).values, whole)
    assert max_sensitivity(explain, inputs, target=1, perturb_radius=0.0).values.abs().max() < 1e-6


def test_a_function_and_plain_numbers() -> None:
    result = max_sensitivity(lambda x: x[:, :1], torch.rand(1, 3, 4, 4), n_perturb_samples=2)
    plain = result.to_dict()
    assert plain["values"] == result.values.tolist() and plain["interval"] == [None, None]
    assert plain["mean"] == pytest.approx(result.values.item()) and plain["n_perturb_samples"] == 2


@pytest.mark.parametrize(
    ("explain", "inputs", "arguments", "error", "words"),
    [
        (3, torch.rand(1, 3), {}, TypeError, "no attribute"),
        (abs, torch.zeros(1, 3).long(), {}, TypeError, "no neighbourhood"),
        (abs, torch.rand(3), {}, TypeError, r"\[B, ...\]"),
        (abs, torch.rand(1, 3), {"perturb_radius": -1.0}, ValueError, "not negative"),
        (abs, torch.rand(1, 3), {"perturb_radius": float("nan")}, ValueError, "finite"),
        (abs, torch.rand(1, 3), {"n_perturb_samples": 0}, ValueError, "at least 1"),
        (abs, torch.rand(3, 3), {"internal_batch_size": 2}, ValueError, "size of the batch, 3"),
    ],
)
def test_arguments(explain: Any, inputs: Tensor, arguments: dict, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        max_sensitivity(explain, inputs, **arguments)


def test_maps_that_are_not_finite() -> None:
    with pytest.raises(ValueError, match="not finite"):
        max_sensitivity(lambda x: x / 0, torch.rand(1, 3))
