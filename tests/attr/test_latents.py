"""Latents read by one hook are those that the reference and the engine see; the model stays as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from captum_ultra import UnsupportedModelError
from captum_ultra.attr.latents import LatentReader
from tests.attr import models
from tests.builders import EXAMPLES, Case


@pytest.mark.parametrize("case", EXAMPLES, ids=lambda case: case.name)
def test_as_the_reference_records_them(case: Case) -> None:
    model, inputs = case.model(), case.inputs()
    recording = case.record(model, inputs)
    for layer in (0, 1, case.depth):
        found = LatentReader(model, layer)(inputs)
        assert not found.requires_grad
        expected = recording.latents[layer].detach()
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5 * expected.abs().max().item())


def test_layers_have_numbers_and_names() -> None:
    model, images = models.vit(), models.images()
    for layer in (-2, "blocks.1", model.blocks[1]):
        reader = LatentReader(model, layer)
        assert reader.number(images) == 2
        assert torch.equal(reader(images), LatentReader(model, 2)(images))


def test_no_block_behind_the_layer_runs() -> None:
    model = models.vit()
    model.blocks[2].register_forward_hook(lambda *_: pytest.fail("block 2 ran"))
    LatentReader(model, 2, blocks="blocks")(models.images())


def test_blocks_are_discovered_once() -> None:
    model, runs = models.vit(), []
    reader = LatentReader(model, 2)
    reader(models.images())
    model.blocks[2].register_forward_hook(lambda *_: runs.append(1))
    reader(models.images())
    assert not runs  # discovery runs the whole model


def test_the_model_is_left_as_it_was_found() -> None:
    model = models.vit().train()
    model.blocks[0].eval()
    model.head.weight.requires_grad_(False)
    modes = [module.training for module in model.modules()]
    flags = [parameter.requires_grad for parameter in model.parameters()]
    LatentReader(model, 1)(models.images())
    broken = models.images() * float("nan")
    with pytest.raises(ValueError, match="layer 1 are not finite"):
        LatentReader(model, 1)(broken)
    with pytest.raises(RuntimeError):
        LatentReader(model, 1)(torch.zeros(1, 7, 16, 16))
    assert modes == [module.training for module in model.modules()]
    assert flags == [parameter.requires_grad for parameter in model.parameters()]
    assert all(not module._forward_hooks and not module._forward_pre_hooks for module in model.modules())
    assert torch.is_grad_enabled()


def test_latents_read_under_inference_mode_can_be_trained_on() -> None:
    model = models.vit()
    with torch.inference_mode():
        latents = LatentReader(model, 1)(models.images())
    weights = torch.ones(16, requires_grad=True)
    (latents @ weights).sum().backward()
    assert weights.grad is not None


def test_what_cannot_be_read() -> None:
    model = models.vit()
    with pytest.raises(ValueError, match="layer=9 does not exist"):
        LatentReader(model, 9)(models.images())
    with pytest.raises(TypeError, match=r"torch\.nn\.Module"):
        LatentReader(lambda x: x)

    class Twice(models.Vit):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            x = self.patch(x).flatten(2).transpose(1, 2)
            for block in [*self.blocks, *self.blocks]:
                x = block(x)
            return x

    reader = LatentReader(Twice().eval(), 1, blocks="blocks")
    assert reader(models.images()).shape == (2, 16, 16)  # the run ends at the first passage

    class Unused(models.Vit):
        def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            return self.patch(x)

    with pytest.raises(UnsupportedModelError, match=r"none of the 1 blocks needed were run"):
        LatentReader(Unused().eval(), 1, blocks="blocks")(models.images())

    class NoStream(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.blocks = nn.ModuleList([nn.Conv2d(3, 3, 1)])

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.blocks[0](x)

    with pytest.raises(UnsupportedModelError, match=r"carries a tensor of shape .* residual stream"):
        LatentReader(NoStream(), 1, blocks="blocks")(models.images())
