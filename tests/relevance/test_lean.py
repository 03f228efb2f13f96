"""Activations whose derivative is kept give what torch gives, values and gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.relevance import lean

CASES: list[tuple[Any, dict[str, Any]]] = [
    (F.gelu, {}), (F.gelu, {"approximate": "tanh"}), (F.silu, {}), (F.relu, {}), (torch.relu, {}),
    (F.elu, {"alpha": 0.5}), (F.softplus, {}), (F.mish, {}), (F.hardswish, {}), (F.leaky_relu, {"negative_slope": 0.2}),
]  # fmt: skip


@pytest.mark.parametrize("change_in_place", [False, True])
@pytest.mark.parametrize(("function", "options"), CASES)
def test_equals_torch(function: Any, options: dict[str, Any], change_in_place: bool) -> None:
    x = torch.randn(2, 5, 7, dtype=torch.float64, requires_grad=True)
    found, expected = lean.called(function, (x,), options), function(x, **options)
    assert type(found.grad_fn).__name__ == "_KeptBackward" and torch.equal(found, expected)
    if change_in_place:
        found.mul_(2)
        expected = expected * 2
    seeds = torch.randn(3, *x.shape, dtype=torch.float64)

    def pulled(result: Tensor) -> Tensor:
        return torch.func.vmap(lambda seed: torch.autograd.grad(result, x, seed, retain_graph=True)[0])(seeds)

    torch.testing.assert_close(pulled(found), pulled(expected), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("options", [{"inplace": True}, {"half": True}, {"constant": True}])
def test_others_go_their_own_way(options: dict[str, bool]) -> None:
    dtype = torch.bfloat16 if options.get("half") else torch.float32
    x = torch.randn(3, dtype=dtype, requires_grad=not options.get("constant"))
    inplace = bool(options.get("inplace"))
    found = lean.called(F.silu, (x.clone(),), {"inplace": inplace})
    assert "_Kept" not in type(found.grad_fn).__name__ and torch.equal(found, F.silu(x))
