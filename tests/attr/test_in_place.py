"""Blocks that change their stream in place: what was kept of a run stays what it was."""

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
from tests.builders.case import HEADS
from tests.builders.torch_models import PlainBlock, PlainTransformer

IDS = torch.randint(3, 50, (2, 9), generator=torch.Generator().manual_seed(1))


class Residuals(PlainBlock):
    """Adds to the stream, or the stream to what is added, in place, or neither."""

    def __init__(self, in_place: str) -> None:
        super().__init__(fused=True)
        self.in_place = in_place

    def added(self, x: Tensor, u: Tensor) -> Tensor:
        if self.in_place == "stream":
            x += u
        elif self.in_place == "branch":
            x = u.add_(x)
        elif self.in_place == "result":
            x = x + u
            x += 0.5
        else:
            x = x + u + (0.5 if self.in_place == "not, shifted" else 0)
        return x

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.first_norm(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        x = self.added(x, self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)))
        return self.added(x, self.mlp(self.second_norm(x)))


def model_of(in_place: str) -> Any:
    model = PlainTransformer(fused=True)
    model.steps = nn.ModuleList([Residuals(in_place) for _ in range(3)])
    return stir(model).double().eval()


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def explained(name: str, in_place: str) -> list[Tensor]:
    model, method = model_of(in_place), method_class(name)
    rows: list[Tensor] = method(model).attribute(IDS, token=[1, 4], layer=[1, 3, 2, 0], self_token="keep")
    return [*rows, method(model, head=lambda logits: logits[:, -1]).attribute(IDS, target=5)]


@pytest.mark.parametrize("in_place, plain", [("branch", "not"), ("result", "not, shifted")])
@pytest.mark.parametrize("name", [name for name in METHODS if name != "token_tm"])
def test_layers_and_classes(name: str, in_place: str, plain: str) -> None:
    for rows, expected in zip(explained(name, in_place), explained(name, plain), strict=True):
        close(rows, expected)


@pytest.mark.parametrize("name", ["rollout", "gae", "grad_cam", "attcat", "legrad", "transformer_attribution"])
def test_a_change_that_the_backward_pass_does_not_survive(name: str) -> None:
    """The stream is added to after its norm has kept it, so that the model could not be trained either."""
    with pytest.raises(UnsupportedModelError, match=r"changes a value in place.*x = x \+ y"):
        explained(name, "stream")


@pytest.mark.parametrize("layer", [0, 1, 3])
@pytest.mark.parametrize("in_place", ["stream", "branch"])
def test_latents(in_place: str, layer: int) -> None:
    close(LatentReader(model_of(in_place), layer)(IDS), LatentReader(model_of("not"), layer)(IDS))


@pytest.mark.parametrize("layer", [0, 1, 3])
def test_scores(layer: int) -> None:
    direction = torch.randn(32, dtype=torch.float64)
    found, expected = (
        LatentTokenAttribution(model_of(in_place)).score(IDS, token=[2, 3], layer=layer, score=direction)
        for in_place in ("branch", "not")
    )
    close(found, expected)
