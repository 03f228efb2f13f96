"""Hooks that look at numbers are refused for many targets at once, with a remedy that works."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from captum_ultra import UnsupportedModelError
from captum_ultra.attr.methods import method_class
from captum_ultra.relevance.autograd_errors import changed_in_place, vectorised
from tests.attr.models import images, vit

LOOKS: dict[str, Callable[[Tensor], Any]] = {
    "item": lambda gradient: gradient.abs().max().item(),
    "numpy": lambda gradient: gradient.numpy().max(),
    "list": lambda gradient: gradient.tolist(),
    "if": lambda gradient: bool(gradient.sum() > 0),
    "indices": lambda gradient: gradient.nonzero(),
    "in place": lambda gradient: torch.zeros(gradient.shape[-1]).add_(gradient[0, 0]),
}


@pytest.mark.parametrize("name", ["gae", "legrad", "conservative_lrp", "token_tm"])
@pytest.mark.parametrize("of", ["module", "tensor"])
@pytest.mark.parametrize("look", LOOKS)
def test_hooks_that_look_at_numbers(look: str, of: str, name: str) -> None:
    plain, model, seen = vit(), vit(), list[Any]()

    def watch(gradient: Tensor) -> None:
        seen.append(LOOKS[look](gradient))

    def forward(module: Any, args: Any, output: Tensor) -> None:
        if output.requires_grad:
            output.register_hook(watch)

    if of == "module":
        model.blocks[1].mlp.register_full_backward_hook(lambda module, down, up: watch(up[0]))
    else:
        model.blocks[1].mlp.register_forward_hook(forward)
    method = method_class(name)
    options: dict[str, Any] = {"token": [1, 2, 3], "layer": 3}
    if name != "legrad":  # which comes by one block a layer: one pass for all targets
        with pytest.raises(UnsupportedModelError, match=r"many targets at once.*internal_batch_size=1"):
            method(model).attribute(images(), **options)
    seen.clear()
    found = method(model).attribute(images(), internal_batch_size=1, **options)
    expected = method(plain).attribute(images(), internal_batch_size=1, **options)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-8)
    assert seen


def test_other_errors_stay_what_they_are() -> None:
    for error in (RuntimeError("out of memory"), KeyError("vmap"), KeyError("modified by an inplace operation")):
        with pytest.raises(type(error)) as raised, vectorised(), changed_in_place():
            raise error
        assert raised.value is error
