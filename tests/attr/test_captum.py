"""Captum's own tools run on LatentTokenAttribution, with the results that their definitions demand."""

from __future__ import annotations

import matplotlib
import numpy as np
import pytest
import torch
from captum.attr import GradientAttribution, LayerAttribution, NoiseTunnel, Saliency
from captum.attr import visualization as viz
from captum.metrics import infidelity, sensitivity_max
from torch import Tensor

from captum_ultra import LatentTokenAttribution
from captum_ultra.attr.latents import LatentReader
from tests.attr.models import images, vit
from tests.builders import case_named

matplotlib.use("Agg")


@pytest.fixture
def lta() -> LatentTokenAttribution:
    return LatentTokenAttribution(vit())


def test_is_a_gradient_attribution_with_captums_conventions(lta: LatentTokenAttribution) -> None:
    assert isinstance(lta, GradientAttribution)
    assert lta.has_convergence_delta() is False
    assert hasattr(type(lta).attribute, "__wrapped__")
    x = images()
    result = lta.attribute((x,), token=3)
    assert isinstance(result, tuple) and len(result) == 1
    assert result[0].shape == (2, 1, 16, 16) and result[0].is_contiguous()
    torch.testing.assert_close(result[0], lta.attribute(x, token=3))


def test_noise_tunnel_averages_the_maps_of_noisy_inputs(lta: LatentTokenAttribution) -> None:
    x, tunnel = images(), NoiseTunnel(lta)
    for given in ({"token": 3}, {"target": 3}, {"target": torch.tensor([3, 5])}):
        still = tunnel.attribute(x, nt_samples=3, stdevs=0.0, nt_type="smoothgrad", layer=2, **given)
        torch.testing.assert_close(still, lta.attribute(x, layer=2, **given))
        torch.manual_seed(0)
        noisy = tunnel.attribute(x, nt_samples=4, nt_samples_batch_size=2, stdevs=0.5, layer=2, **given)
        assert noisy.shape == (2, 1, 16, 16)
        assert not torch.allclose(noisy, still)


def test_noise_tunnel_hands_every_sample_its_own_token(lta: LatentTokenAttribution) -> None:
    x = images()
    tokens = torch.tensor([3, 5])
    together = NoiseTunnel(lta).attribute(x, nt_samples=2, stdevs=0.0, target=tokens)
    for sample, token in enumerate(tokens.tolist()):
        torch.testing.assert_close(together[sample : sample + 1], lta.attribute(x[sample : sample + 1], token=token))


def test_sensitivity_max_is_zero_without_perturbation_and_positive_with(lta: LatentTokenAttribution) -> None:
    x = images()
    tokens = torch.tensor([3, 5])
    assert sensitivity_max(lta.attribute, x, perturb_radius=0.0, target=tokens).abs().max() < 1e-5
    sensitivity = sensitivity_max(lta.attribute, x, perturb_radius=0.2, n_perturb_samples=4, target=tokens, layer=2)
    assert sensitivity.shape == (2,) and (sensitivity > 0).all()


def test_infidelity_takes_the_map_in_the_shape_of_the_input(lta: LatentTokenAttribution) -> None:
    x = images()
    channels = lta.attribute(x, token=3, layer=2, output="channels")
    assert channels.shape == x.shape
    torch.testing.assert_close(channels.sum(1, keepdim=True), lta.attribute(x, token=3, layer=2))

    def perturb(inputs: Tensor) -> tuple[Tensor, Tensor]:
        noise = 0.1 * torch.randn_like(inputs)
        return noise, inputs - noise

    torch.manual_seed(0)
    explained = lta.scorer(x, token=3, layer=2)
    result = infidelity(explained, perturb, x, channels, n_perturb_samples=5)
    torch.manual_seed(0)  # the energy of a normalised latent is one for every input: an empty map must not win
    empty = infidelity(explained, perturb, x, torch.zeros_like(channels), n_perturb_samples=5)
    assert (empty > 0).all()
    assert result.shape == (2,) and torch.isfinite(result).all() and (result > 0).all()


def test_score_is_the_explained_scalar(lta: LatentTokenAttribution) -> None:
    x = images()
    latents = {}
    handle = lta.model.blocks[1].register_forward_hook(lambda m, a, out: latents.update(z=out))
    with torch.no_grad():
        lta.model(x)
    handle.remove()
    z = latents["z"]
    torch.testing.assert_close(
        lta.score(x, token=3, layer=2, score="sum"), (z / z.norm(dim=-1, keepdim=True)).sum(-1)[:, 3]
    )
    torch.testing.assert_close(
        lta.score(x, token=[3, 4], layer=2, score="energy", normalize=False), z.square().sum(-1)[:, 3:5]
    )


def test_visualize_image_attr_and_multiple(lta: LatentTokenAttribution) -> None:
    x = images()
    attribution = lta.attribute(x, token=3)[0].permute(1, 2, 0).numpy()
    picture = np.ascontiguousarray(x[0].permute(1, 2, 0).numpy())
    figure, axes = viz.visualize_image_attr(
        attribution, picture, method="blended_heat_map", sign="positive", show_colorbar=True, use_pyplot=False
    )
    assert axes.images or figure.axes[0].images
    figure, axes = viz.visualize_image_attr_multiple(
        attribution, picture, ["original_image", "heat_map"], ["all", "positive"], use_pyplot=False
    )
    assert len(axes) == 2


def test_layer_attribution_interpolate_enlarges_patch_maps(lta: LatentTokenAttribution) -> None:
    x = images()
    patches = lta.attribute(x, token=3, output="patches").unflatten(-1, (4, 4)).unsqueeze(1)
    enlarged = LayerAttribution.interpolate(patches, (16, 16), interpolate_mode="bicubic")
    torch.testing.assert_close(enlarged, lta.attribute(x, token=3, interpolation="bicubic"))


def test_noise_tunnel_over_embeddings_of_text() -> None:
    case = case_named("torch-encoder-prenorm")
    tunnel = NoiseTunnel(LatentTokenAttribution(case.model()))
    assert tunnel.attribute(case.inputs(), nt_samples=2, stdevs=0.1, target=2).shape == (2, 9)


def test_the_scorer_is_the_linear_score_along_a_fixed_direction_and_has_gradients(lta: LatentTokenAttribution) -> None:
    x, other = images(), images(seed=7)
    reader = LatentReader(lta.model, layer=2)
    z, changed = reader(x)[:, 3], reader(other)[:, 3]
    direction = z / z.square().sum(-1, keepdim=True)
    explained = lta.scorer(x, token=3, layer=2, score="energy")
    torch.testing.assert_close(explained(x), torch.ones(2))
    torch.testing.assert_close(explained(other), (changed * direction).sum(-1))
    twice = other.repeat_interleave(2, 0)
    torch.testing.assert_close(explained(twice), explained(other).repeat_interleave(2))
    gradient = Saliency(explained).attribute(other)
    assert gradient.shape == x.shape and (gradient > 0).any()


def test_a_score_that_cannot_change_is_called_one(lta: LatentTokenAttribution) -> None:
    with pytest.warns(UserWarning, match="1 for every input"):
        torch.testing.assert_close(lta.score(images(), token=3, layer=2, score="energy"), torch.ones(2))
