"""The model is left as found, results repeat, memory stays flat, and broken numbers are named."""

from __future__ import annotations

import gc
import os

import pytest
import torch
from torch import Tensor, nn

from captum_ultra import LatentTokenAttribution, UnsupportedModelError
from tests.attr.models import images, vit


def test_dropout_of_a_model_left_in_training_mode_plays_no_part() -> None:
    model = vit()
    model.blocks[0].mlp.append(nn.Dropout(0.5))
    model.train()
    lta, x = LatentTokenAttribution(model), images()
    assert torch.equal(lta.attribute(x), lta.attribute(x))
    assert all(module.training for module in model.modules())


def test_inputs_that_require_gradients_keep_them_untouched() -> None:
    lta, x = LatentTokenAttribution(vit()), images().requires_grad_()
    result = lta.attribute(x, token=[1, 2])
    assert x.grad is None and not result.requires_grad
    assert all(parameter.grad is None for parameter in lta.model.parameters())


def test_two_hundred_calls_leave_memory_flat() -> None:
    lta, x = LatentTokenAttribution(vit()), images()

    def resident() -> int:
        gc.collect()
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    for _ in range(20):
        lta.attribute(x, token="patches")
    before = resident()
    for _ in range(200):
        lta.attribute(x, token="patches")
    assert resident() - before < 8 * 2**20


def test_no_tensor_waits_for_the_garbage_collector() -> None:
    lta, x = LatentTokenAttribution(vit()), images()

    def tensors() -> int:
        return sum(isinstance(each, torch.Tensor) for each in gc.get_objects())

    lta.attribute(x, token="patches")
    gc.collect()
    gc.disable()
    try:
        before = tensors()
        for _ in range(5):
            lta.attribute(x, token="patches")
        assert tensors() == before
    finally:
        gc.enable()


def test_latents_that_are_not_finite_name_the_layer() -> None:
    model = vit()
    with torch.no_grad():
        model.blocks[1].mlp[2].bias[0] = torch.nan
    with pytest.raises(ValueError, match="latents at layer 2 contain NaN"):
        LatentTokenAttribution(model).attribute(images())
    LatentTokenAttribution(model).attribute(images(), layer=1)  # below it all is well


def test_gradients_that_are_not_finite_name_the_block() -> None:
    with pytest.raises(ValueError, match="gradients in block 1"):
        LatentTokenAttribution(vit()).attribute(images(), layer=2, score=lambda t: t.sum(-1) * torch.inf)


def test_tiny_float16_gradients_do_not_underflow() -> None:
    """With a score scaled by 1e-6 float16 gradients would be zero without the engine's scaling."""
    x = images()
    score = lambda t: t.sum(-1) * 1e-6  # noqa: E731
    exact, half = (
        LatentTokenAttribution(vit().to(dtype)).attribute(
            x.to(dtype), token=3, layer=1, score=score, self_token="zero", output="tokens"
        )
        for dtype in (torch.float64, torch.float16)
    )
    assert (half - exact).norm() < 0.02 * exact.norm()


def test_half_precision_that_the_device_lacks_is_explained() -> None:
    class Lacking(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if x.dtype == torch.float16:
                raise RuntimeError("\"some_kernel\" not implemented for 'Half'")
            return x

    model = vit()
    model.blocks[1].mlp.append(Lacking())
    with pytest.raises(ValueError, match=r"float16, which this device cannot compute.*model.bfloat16\(\)"):
        LatentTokenAttribution(model.half()).attribute(images().half())


def test_progress_is_shown_on_request_only(capsys: pytest.CaptureFixture[str]) -> None:
    lta, x = LatentTokenAttribution(vit()), images()
    lta.attribute(x, token="patches")
    assert capsys.readouterr().err == ""
    lta.attribute(x, token="patches", layer=2, show_progress=True)
    assert "layer 2" in capsys.readouterr().err


def test_blocks_that_run_twice_are_refused_at_the_last_layer_too() -> None:
    model = vit()

    def twice(x: Tensor) -> Tensor:
        x = model.patch(x).flatten(2).transpose(1, 2)
        for block in [*model.blocks, *model.blocks]:
            x = block(x)
        return x

    model.forward = twice  # type: ignore[method-assign, assignment]
    with pytest.raises(UnsupportedModelError, match="ran out of order or more than once"):
        LatentTokenAttribution(model, blocks="blocks").attribute(images(), token=1, layer=-1)
