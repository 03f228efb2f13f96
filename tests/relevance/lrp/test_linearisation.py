"""A model as a linear map of its tokens: however its parts are written, and what of them has no rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra import ResidualLRP, UnsupportedModelError
from captum_ultra.relevance.lrp.linearisation import residual_factors
from tests.attr.models import Vit, images, vit


class WrittenNorm(nn.Module):
    """A LayerNorm by hand, with a square root and a quotient."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True)
        scale = (x.pow(2).mean(-1, keepdim=True) + self.norm.eps).sqrt()
        return x / scale * self.norm.weight + self.norm.bias


class Written(nn.Module):
    """An activation by hand."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x)


class Scaled(Written):
    """The same in a module that is no activation by itself: it has a weight."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__(function)
        self.weight = nn.Parameter(torch.ones(()), requires_grad=False)


def rows(model: Vit, **choices: Any) -> Tensor:
    found: Tensor = ResidualLRP(model.double()).attribute(
        images().double(), token=[0, 5], layer=3, score="energy", output="tokens", self_token="keep", **choices
    )
    return found


def with_activation(make: Callable[[], nn.Module]) -> Vit:
    model = vit()
    for block in model.blocks:
        block.mlp[1] = make()
    return model


def test_a_norm_written_by_hand_is_a_norm() -> None:
    """Taking off the mean is no residual sum, and the scale is a constant, square and root included."""
    model, expected = vit(), rows(vit())
    for block in model.blocks:
        block.norm1, block.norm2 = WrittenNorm(block.norm1), WrittenNorm(block.norm2)
    torch.testing.assert_close(rows(model), expected, rtol=1e-10, atol=1e-12)


GELU_BY_HAND = {
    "a module": lambda: Written(lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5))),
    "with operations of no rule": lambda: Written(lambda x: x * torch.special.ndtr(x)),
}


@pytest.mark.parametrize("name", GELU_BY_HAND)
def test_an_activation_written_by_hand_is_a_gate(name: str) -> None:
    expected = rows(with_activation(nn.GELU))
    torch.testing.assert_close(rows(with_activation(GELU_BY_HAND[name])), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("gates", ["constant", "halves"])
def test_an_operation_without_a_rule_is_named_where_relevance_passes_it(gates: str) -> None:
    model = with_activation(lambda: Scaled(lambda x: x.cumsum(-1)))
    with pytest.raises(UnsupportedModelError, match=r"cumsum .*blocks\.2\.mlp\.1 \(Scaled\).*gates='gradient'"):
        rows(model, gates=gates)
    assert rows(model, gates="gradient").isfinite().all()


def test_an_operation_without_a_rule_does_not_matter_below_a_constant() -> None:
    model = with_activation(lambda: Scaled(lambda x: F.gelu(x) * (x.cumsum(-1).detach() > 0)))
    assert rows(model).isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 3.0])
def test_residual_factors_share_out_all_of_a_sum(gamma: float) -> None:
    x, u = torch.randn(2, 1000, dtype=torch.float64)
    u[:10] = -x[:10]  # a sum of zero is shared as the plain gradient does
    a, b = residual_factors(x, u, gamma)
    torch.testing.assert_close(x * a + u * b, x + u)
    assert a.min() > 0 and max(a.max(), b.max()) <= 1 + gamma
    if gamma == 0:
        assert (a == 1).all() and (b == 1).all()
