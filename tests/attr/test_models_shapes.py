"""The same attention in other shapes: one head without an axis of its own, tokens transposed to the front inside."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra import LatentTokenAttribution, UnsupportedModelError
from captum_ultra.attr.latents import LatentReader
from captum_ultra.attr.methods import METHODS, method_class
from tests.builders import stir
from tests.builders.case import CHANNELS, HEADS
from tests.builders.torch_models import PlainBlock, PlainTransformer

IDS = torch.randint(3, 50, (2, 9), generator=torch.Generator().manual_seed(1))
MASKS = {"none": None, "of all": (9, 9), "of each sample": (2, 9, 9), "the same for all": (1, 9, 9)}


class ThreeAxes(PlainBlock):
    """One head [B, n, d], or the heads of a sample on its axis [H, n, d]; with ``spelt``, their usual form."""

    def __init__(self, heads: int, spelt: bool, mask: Tensor | None) -> None:
        super().__init__(fused=True)
        self.heads, self.spelt, self.mask = heads, spelt, mask

    def forward(self, x: Tensor) -> Tensor:
        parts = self.qkv(self.first_norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mask = self.mask
        if self.spelt:
            if mask is not None and mask.dim() == 3:
                mask = mask[:, None] if len(x) > 1 else mask[None]
            mixed = F.scaled_dot_product_attention(*parts, attn_mask=mask)
        else:
            mixed = F.scaled_dot_product_attention(*(each.flatten(0, 1) for each in parts), attn_mask=mask)
            mixed = mixed.unflatten(0, (len(x), -1))
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.second_norm(x))


class Transposing(nn.Module):
    """Carries [B, n, d], and hands [n, B, d] to an attention that takes tokens first."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(CHANNELS)
        self.attention = nn.MultiheadAttention(CHANNELS, HEADS, batch_first=batch_first)
        self.mlp = nn.Sequential(nn.LayerNorm(CHANNELS), nn.Linear(CHANNELS, 64), nn.GELU(), nn.Linear(64, CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        if self.attention.batch_first:
            x = x + self.attention(y, y, y, need_weights=False)[0]
        else:
            y = y.transpose(0, 1)
            x = x + self.attention(y, y, y, need_weights=False)[0].transpose(0, 1)
        return x + self.mlp(x)


def model_of(block: Any, *settings: Any) -> nn.Module:
    model = PlainTransformer(fused=True)
    model.steps = nn.ModuleList([block(*settings) for _ in range(3)])
    return stir(model).double().eval()


def assert_explained_alike(one: nn.Module, other: nn.Module, ids: Tensor, names: Any = METHODS) -> None:
    for name in names:
        method = method_class(name)
        for asked in ({"token": [1, 4], "layer": 2}, {"target": 3, "head": lambda logits: logits[:, -1]}):
            options = dict(asked)
            head = options.pop("head", None)
            found, expected = (method(model, head=head).attribute(ids, **options) for model in (one, other))
            torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11, msg=lambda text: f"{name}: {text}")  # noqa: B023


@pytest.mark.parametrize("kind", MASKS)
def test_one_head_without_an_axis(kind: str) -> None:
    shape = MASKS[kind]
    mask = None if shape is None else (torch.rand(shape) > 0.3) | torch.eye(9, dtype=torch.bool)
    three, four = (model_of(ThreeAxes, 1, spelt, mask) for spelt in (False, True))
    assert_explained_alike(three, four, IDS, METHODS if kind == "none" else ("gae", "lrp", "conservative_lrp"))


@pytest.mark.parametrize("shape", [None, (HEADS, 9, 9), (1, 9, 9)])
def test_the_heads_of_one_sample(shape: Any) -> None:
    mask = None if shape is None else torch.randn(shape, dtype=torch.float64)
    three, four = (model_of(ThreeAxes, HEADS, spelt, mask) for spelt in (False, True))
    assert_explained_alike(three, four, IDS[:1], ("gae", "lrp", "conservative_lrp", "residual_lrp"))


@pytest.mark.parametrize("name", ["gae", "lrp", "conservative_lrp"])
def test_heads_and_samples_on_one_axis_are_refused_for_that(name: str) -> None:
    method = method_class(name)(model_of(ThreeAxes, HEADS, False, None), blocks="steps")
    with pytest.raises(UnsupportedModelError, match=r"heads and .*samples on one axis.*explain one sample at a time"):
        method.attribute(IDS, token=1)
    assert method.attribute(IDS[:1], token=1).shape == (1, 9)


def test_tokens_in_front_inside_the_block() -> None:
    first, inside = model_of(Transposing, True), model_of(Transposing, False)
    assert_explained_alike(inside, first, IDS)
    for ids in (IDS, IDS[:1], torch.randint(3, 50, (4, 4))):
        assert torch.equal(LatentReader(inside, 2)(ids), LatentReader(first, 2)(ids))


def test_nobody_sees_that_a_block_was_asked() -> None:
    model, seen = model_of(Transposing, False), []
    model.steps[0].register_forward_hook(lambda *_: seen.append(0))
    expected = LatentTokenAttribution(model).attribute(IDS)
    seen.clear()
    assert torch.equal(LatentTokenAttribution(model, blocks="steps").attribute(IDS), expected)
    assert seen == [0] and not any(module._forward_pre_hooks for module in model.modules())
