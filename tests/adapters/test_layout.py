"""Where the patches are: prefix and grid come from the run itself, whatever the size of the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_ultra import LatentTokenAttribution
from captum_ultra.adapters import TokenLayout
from tests.builders import CASES, Case, case_named
from tests.builders.torch_models import PlainBlock

IMAGES = [case for case in CASES if case.grid and not case.name.endswith("-eager")]


@pytest.mark.parametrize("case", IMAGES, ids=lambda case: case.name)
def test_every_image_model_shows_its_grid(case: Case) -> None:
    model, inputs = case.model(), case.inputs()
    layout = LatentTokenAttribution(model).token_layout(inputs)
    assert (layout.tokens, layout.prefix, layout.grid) == (case.tokens, case.prefix, case.grid)
    assert not any(module._forward_hooks for module in model.modules())


@pytest.mark.parametrize("size", [(40, 24), (24, 56)])
def test_one_model_on_images_of_many_sizes(size: tuple[int, int]) -> None:
    model, inputs = case_named("timm-vit-dynamic").model(), torch.randn(1, 3, *size)
    rows, columns = size[0] // 8, size[1] // 8
    lta = LatentTokenAttribution(model)
    assert lta.attribute(inputs, token=(rows - 1, columns - 1)).shape == (1, 1, *size)
    assert lta.attribute(inputs, token="patches", output="patches").shape == (1, rows * columns, rows * columns)
    with pytest.raises(ValueError, match=f"patch grid is {rows} x {columns}"):
        lta.attribute(inputs, token=(rows, 0))


def test_interpolated_positions_of_transformers() -> None:
    case = case_named("hf-Dinov2Model-sdpa")
    maps = LatentTokenAttribution(case.model()).attribute(torch.randn(1, 3, 48, 16), token=(5, 1))
    assert maps.shape == (1, 1, 48, 16)
    arguments: Any = {"interpolate_pos_encoding": True}
    vit = LatentTokenAttribution(case_named("hf-ViTModel-sdpa").model())
    maps = vit.attribute(torch.randn(1, 3, 48, 16), token=(5, 1), additional_forward_args=arguments)
    assert maps.shape == (1, 1, 48, 16)


class LinearPatches(nn.Module):
    """Patches embedded by unfolding and a linear layer: no convolution shows the grid."""

    def __init__(self, prefix: int) -> None:
        super().__init__()
        self.unfold, self.embed = nn.Unfold(8, stride=8), nn.Linear(3 * 64, 32)
        self.prefix = nn.Parameter(torch.randn(1, prefix, 32))
        self.steps = nn.ModuleList([PlainBlock(fused=True)])

    def forward(self, images: Tensor) -> Tensor:
        patches = self.embed(self.unfold(images).transpose(1, 2))
        x = torch.cat([self.prefix.expand(len(images), -1, -1), patches], dim=1)
        for step in self.steps:
            x = step(x)
        return x


@pytest.mark.parametrize(("prefix", "size"), [(0, (16, 32)), (1, (32, 32))])
def test_patches_without_a_convolution(prefix: int, size: tuple[int, int]) -> None:
    model = LinearPatches(prefix).eval()
    maps = LatentTokenAttribution(model).attribute(torch.randn(2, 3, *size), token="patches")
    assert maps.shape == (2, size[0] * size[1] // 64, *size)


def test_a_grid_that_cannot_be_known() -> None:
    model, images = LinearPatches(7).eval(), torch.randn(1, 3, 32, 32)
    lta = LatentTokenAttribution(model)
    with pytest.raises(ValueError, match=r'patch grid of 23 tokens is not known.*output="tokens"'):
        lta.attribute(images, token=9)
    assert lta.attribute(images, token=9, output="tokens").shape == (1, 23)


class Arranged(nn.Module):
    """Patches of 8 pixels, arranged among other tokens as a function says."""

    def __init__(self, arrange: Callable[[Tensor, Tensor], Tensor], gate: bool = False) -> None:
        super().__init__()
        self.patch, self.arrange = nn.Conv2d(3, 32, 8, 8), arrange
        self.gate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(32, 32, 1), nn.Sigmoid()) if gate else None
        self.others = nn.Parameter(torch.randn(1, 3, 32))
        self.steps = nn.ModuleList([PlainBlock(fused=True)])

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch(images)
        patches = patches if self.gate is None else patches * self.gate(patches)
        x = self.arrange(patches.flatten(2).transpose(1, 2), self.others.expand(len(images), -1, -1))
        for step in self.steps:
            x = step(x)
        return x


@pytest.mark.parametrize(("before", "gate"), [(0, True), (1, False), (3, True)])
def test_tokens_before_and_after_the_patches(before: int, gate: bool) -> None:
    model = Arranged(lambda p, o: torch.cat([o[:, :before], p, o[:, before:]], 1), gate).eval()
    images = torch.randn(2, 3, 16, 32)
    assert LatentTokenAttribution(model).token_layout(images) == TokenLayout(11, before, (2, 4))
    lta = LatentTokenAttribution(model)
    row = lta.attribute(images, token=(1, 2), layer=0, self_token="keep", output="tokens")
    assert row.argmax(1).tolist() == [before + 6] * 2
    every = lta.attribute(images, token="all", output="tokens", self_token="keep")
    patches = lta.attribute(images, token="patches", output="patches", self_token="keep")
    torch.testing.assert_close(patches, every[:, before : before + 8, before : before + 8])


def test_patches_out_of_order_have_rows_but_no_map() -> None:
    lta = LatentTokenAttribution(Arranged(lambda p, o: torch.cat([o, p.flip(1)], 1)).eval())
    images = torch.randn(1, 3, 16, 32)
    assert lta.attribute(images, token=5, output="tokens").shape == (1, 11)
    with pytest.raises(ValueError, match="patch grid of 11 tokens is not known"):
        lta.attribute(images, token=5)
