"""Models that accelerate spreads: weights that come and go with every layer, and leave the explanation as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import accelerate
import pytest
import torch
from torch import Tensor, nn

from captum_ultra import LatentTokenAttribution
from tests.attr.test_models_as_found import assert_same, state_of_torch
from tests.builders import case_named


def offloaded_to_cpu(model: nn.Module, folder: Path) -> nn.Module:
    """Every weight on the meta device but while its layer runs."""
    return accelerate.cpu_offload(model, execution_device=torch.device("cpu"))


def spread_over_disk(model: nn.Module, folder: Path) -> nn.Module:
    """What ``device_map`` makes of a model that does not fit: some blocks in memory, some in files."""
    device_map = {name: "cpu" for name, _ in model.named_children()}
    del device_map["model"]
    device_map |= {f"model.{name}": "cpu" for name, _ in model.model.named_children() if name != "layers"}
    device_map |= {f"model.layers.{i}": "disk" if i % 2 else "cpu" for i in range(len(model.model.layers))}
    return accelerate.dispatch_model(model, device_map, main_device="cpu", offload_dir=folder, force_hooks=True)


SPREAD = {"cpu offload": offloaded_to_cpu, "disk": spread_over_disk}


def left_by(model: nn.Module) -> dict[str, Any]:
    """What a caller could notice of a model whose weights may be away."""
    return {
        "weights": {name: (p.device, p.dtype, p.requires_grad) for name, p in model.named_parameters()},
        "training": {name: module.training for name, module in model.named_modules()},
        "hooks": {name: len(m._forward_hooks) + len(m._forward_pre_hooks) for name, m in model.named_modules()},
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
    }


@pytest.mark.parametrize("how", SPREAD)
def test_a_spread_model_is_explained_as_the_whole_one(how: str, tmp_path: Path) -> None:
    case = case_named("hf-LlamaForCausalLM-sdpa")
    inputs = case.inputs()
    whole = LatentTokenAttribution(case.model())
    model = SPREAD[how](case.model(), tmp_path)
    assert any(p.is_meta for p in model.parameters()), "nothing was offloaded"
    expected: Tensor = model(inputs).logits
    before, torch_before = left_by(model), state_of_torch()
    for options in ({"token": "all"}, {"token": 3, "layer": 1}, {"token": [4, 5], "internal_batch_size": 1}):
        rows = LatentTokenAttribution(model).attribute(inputs, **options)
        torch.testing.assert_close(rows, whole.attribute(inputs, **options), rtol=1e-5, atol=1e-7)
    assert_same(left_by(model), before)
    assert_same(state_of_torch(), torch_before)
    assert torch.equal(model(inputs).logits, expected)


@pytest.mark.parametrize("how", SPREAD)
def test_left_as_found_after_an_exception(how: str, tmp_path: Path) -> None:
    case = case_named("hf-LlamaForCausalLM-sdpa")
    model: Any = SPREAD[how](case.model(), tmp_path)

    def score(latents: Tensor) -> Tensor:
        raise KeyError("thrown by a score")

    before = left_by(model)
    with pytest.raises(KeyError, match="thrown by a score"):
        LatentTokenAttribution(model).attribute(case.inputs(), token=2, score=score)
    assert_same(left_by(model), before)
