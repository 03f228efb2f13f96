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


@pytest.mark.parametrize(("prefix", "size"), [(0, (16, 32)), (1, (32, 32)), (9, (32, 32))])
def test_patches_without_a_convolution(prefix: int, size: tuple[int, int]) -> None:
    model = LinearPatches(prefix).eval()
    maps = LatentTokenAttribution(model).attribute(torch.randn(2, 3, *size), token="patches")
    assert maps.shape == (2, size[0] * size[1] // 64, *size)


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


ORDERS = {
    "column by column": lambda grid: grid.T.flatten(),
    "two by two": lambda grid: grid.view(2, 2, 4, 2).transpose(1, 2).flatten(),
    "backwards": lambda grid: grid.flatten().flip(0),
    "at random": lambda grid: grid.flatten()[torch.randperm(32, generator=torch.Generator().manual_seed(0))],
}


@pytest.mark.parametrize("order", ORDERS)
def test_patches_in_another_order_are_found_where_they_are(order: str) -> None:
    places = ORDERS[order](torch.arange(32).view(4, 8))
    usual = Arranged(lambda p, o: torch.cat([p, o], 1)).eval()
    other = Arranged(lambda p, o: torch.cat([o[:, :1], p[:, places], o[:, 1:]], 1)).eval()
    other.load_state_dict(usual.state_dict())
    images = torch.randn(2, 3, 32, 64)
    lta = LatentTokenAttribution(other)
    layout = lta.token_layout(images)
    assert (layout.prefix, layout.grid) == (1, (4, 8))
    assert [layout.patches[place] - 1 for place in places.tolist()] == list(range(32))
    row = lta.attribute(images, token=(1, 5), layer=0, self_token="keep", output="patches")
    assert row.argmax(1).tolist() == [13] * 2
    maps = lta.attribute(images, token=[(1, 5), (3, 0)], self_token="keep", interpolation="nearest")
    for of_sample in maps:
        places = [divmod(int(each.flatten().argmax()), 64) for each in of_sample]
        assert [(row // 8, column // 8) for row, column in places] == [(1, 5), (3, 0)]


def test_tokens_between_the_rows_of_patches() -> None:
    def with_ends(patches: Tensor, others: Tensor) -> Tensor:
        rows = patches.unflatten(1, (2, 4))
        return torch.cat([rows, others[:, :1, None].expand(-1, 2, 1, -1)], 2).flatten(1, 2)

    layout = LatentTokenAttribution(Arranged(with_ends).eval()).token_layout(torch.randn(1, 3, 16, 32))
    assert (layout.tokens, layout.grid, layout.patches) == (10, (2, 4), [0, 1, 2, 3, 5, 6, 7, 8])


def _means(patches: Tensor, others: Tensor) -> Tensor:
    return patches.mean(1, keepdim=True) + others


def _corner(patches: Tensor, others: Tensor) -> Tensor:
    return patches.unflatten(1, (2, 4))[:, :, :2].flatten(1, 2)


def _sorted(patches: Tensor, others: Tensor) -> Tensor:
    order = patches[..., 0].argsort(1)
    return patches.gather(1, order[..., None].expand_as(patches))


def _steps(patches: Tensor, others: Tensor) -> Tensor:
    return patches.cumsum(1)[:, :7]


@pytest.mark.parametrize(
    ("arrange", "reason"),
    [
        (_corner, "4 patches see form no grid"), (_sorted, "different places of the samples"),
        (_means, "3 patches see form no grid"), (_steps, "7 patches see form no grid"),
        (lambda p, o: p.detach(), "no gradient leads"),
        (lambda p, o: o.expand(len(p), -1, -1) + 0 * p.sum(), "none of"),
    ],
)  # fmt: skip
def test_where_tokens_look_nowhere_in_particular_there_are_rows_but_no_map(arrange: Any, reason: str) -> None:
    model, images = Arranged(arrange).eval(), torch.randn(2, 3, 16, 32)
    lta = LatentTokenAttribution(model)
    runs = list[object]()
    for _ in range(2):
        with pytest.raises(ValueError, match=rf'no map.*is not known.*{reason}.*output="tokens"'):
            lta.attribute(images, token=1)
        model.steps.register_forward_hook(lambda *args: runs.append(args))
    assert not runs  # the second time it is known before the model runs
    assert lta.attribute(images, token=1, output="tokens").shape[0] == 2
    with pytest.raises(ValueError, match=f"grid of patches: .*{reason}"):
        lta.attribute(images, token=(0, 1), output="tokens")


@pytest.mark.parametrize("strides", [(2, 2, 2), (4, 2)])
def test_stems_of_overlapping_convolutions(strides: tuple[int, ...]) -> None:
    model = Arranged(lambda p, o: torch.cat([o, p], 1)).eval()
    layers: list[nn.Module] = []
    for stride in strides:
        channels = 3 if not layers else 16
        layers += [nn.Conv2d(channels, 16, 2 * stride + 1, stride, stride), nn.GroupNorm(1, 16), nn.ReLU()]
    model.patch = nn.Sequential(*layers, nn.Conv2d(16, 32, 1))  # type: ignore[assignment]
    layout = LatentTokenAttribution(model).token_layout(torch.randn(1, 3, 48, 32))
    assert layout == TokenLayout(27, 3, (6, 4))


def test_a_picture_that_shows_nothing_is_not_the_last_word() -> None:
    model = Arranged(lambda p, o: torch.cat([o, p], 1)).eval()
    model.patch = nn.Sequential(nn.Conv2d(3, 32, 8, 8, bias=False), nn.ReLU())  # type: ignore[assignment]
    lta = LatentTokenAttribution(model)
    assert lta.token_layout(torch.zeros(1, 3, 16, 32)).grid is None
    assert lta.token_layout(torch.randn(1, 3, 16, 32)) == TokenLayout(11, 3, (2, 4))
