"""A tensor in two places of an operation takes what both places take, and a difference may be written in three ways."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra.attr.methods import method_class
from tests.builders import stir
from tests.builders.case import HEADS
from tests.builders.torch_models import PlainBlock, PlainTransformer

IDS = torch.randint(3, 50, (2, 9), generator=torch.Generator().manual_seed(1))
METHODS = [
    "lrp",
    "conservative_lrp",
    "residual_lrp",
    "gae",
    "attcat",
    "legrad",
    "partial_lrp",
    "transformer_attribution",
]
PLACES: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "keys and values": lambda q, k, v: (q, k, k),
    "queries and keys": lambda q, k, v: (q, q, v),
    "queries and values": lambda q, k, v: (q, k, q),
    "all three": lambda q, k, v: (q, q, q),
}
Difference = Callable[[Tensor, Tensor], Tensor]  # (x, u) -> x - u
DIFFERENCES: dict[str, Difference] = {
    "rsub": lambda x, u: torch.rsub(u, x),
    "rsub with a factor": lambda x, u: torch.rsub(u / 2, x, alpha=2),
    "method": lambda x, u: x.subtract(u),
    "sum": lambda x, u: torch.add(x, u, alpha=-1),
}


class Written(PlainBlock):
    def __init__(self, places: Any, apart: bool, difference: Difference) -> None:
        super().__init__(fused=True)
        self.places, self.apart, self.difference = places, apart, difference

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.first_norm(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        given = self.places(q, k, v)
        given = tuple(each.clone() for each in given) if self.apart else given
        x = self.difference(x, self.out(F.scaled_dot_product_attention(*given).transpose(1, 2).flatten(2)))
        return self.difference(x, self.mlp(self.second_norm(x)))


def explained(name: str, places: Any, apart: bool, difference: Difference, **choices: Any) -> list[Tensor]:
    model = PlainTransformer(fused=True)
    model.steps = nn.ModuleList([Written(places, apart, difference) for _ in range(2)])
    method = method_class(name)(stir(model).double().eval(), head=lambda logits: logits[:, -1])
    return [method.attribute(IDS, **asked, **choices) for asked in ({"token": [2, 7]}, {"target": 5})]


def assert_alike(found: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert other.abs().max() > 1e-6
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("name", METHODS)
def test_an_attention_given_one_tensor_twice(name: str, places: str) -> None:
    choices = {"attention": "halves"} if name == "conservative_lrp" else {}
    one, apart = (explained(name, PLACES[places], each, torch.add, **choices) for each in (False, True))
    assert_alike(one, apart)


@pytest.mark.parametrize("written", DIFFERENCES)
@pytest.mark.parametrize(
    "name, choices",
    [("lrp", {}), ("lrp", {"rules": "published"}), ("residual_lrp", {}), ("conservative_lrp", {}), ("gae", {})],
)
def test_a_difference_however_it_is_written(name: str, choices: dict[str, Any], written: str) -> None:
    def plainly(x: Tensor, u: Tensor) -> Tensor:
        return x - (u / 2) * 2 if written == "rsub with a factor" else x - u

    found, expected = (
        explained(name, lambda *each: each, False, how, **choices) for how in (DIFFERENCES[written], plainly)
    )
    assert_alike(found, expected)
