"""Whatever state a model is in, its maps are the same, and it is left bit for bit as it was found."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import _get_current_function_mode_stack

from captum_ultra import LatentTokenAttribution
from tests.builders import EXAMPLES, Case, case_named

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def state_of(model: nn.Module) -> dict[str, Any]:
    """Everything about a model that a caller could notice; tensors as copies."""
    config = getattr(model, "config", None)
    return {
        "weights": copy.deepcopy(dict(model.state_dict())),
        "flags": {name: (p.requires_grad, p.grad) for name, p in model.named_parameters()},
        "training": {name: module.training for name, module in model.named_modules()},
        "hooks": {name: [len(getattr(m, kind)) for kind in HOOKS] for name, m in model.named_modules()},
        "attributes": {name: sorted(vars(module)) for name, module in model.named_modules()},
        "config": config.to_dict() if hasattr(config, "to_dict") else None,
    }


def state_of_torch() -> dict[str, Any]:
    """Global switches that an explanation might have to touch."""
    return {
        "fast path": torch.backends.mha.get_fastpath_enabled(),
        "dtype": torch.get_default_dtype(),
        "modes": (torch.is_grad_enabled(), torch.is_inference_mode_enabled()),
        "function modes": list(_get_current_function_mode_stack()),
        "random": torch.get_rng_state(),
        "threads": torch.get_num_threads(),
        "functions": (
            F.scaled_dot_product_attention, F.multi_head_attention_forward, F.softmax, torch.softmax,
            torch.Tensor.softmax,
        ),
    }  # fmt: skip


def assert_same(after: Any, before: Any, where: str = "state") -> None:
    if isinstance(before, Tensor):
        assert torch.equal(after, before), where
    elif isinstance(before, dict):
        assert after.keys() == before.keys(), where
        for key in before:
            assert_same(after[key], before[key], f"{where}[{key!r}]")
    else:
        assert after == before, where


def unusual(model: nn.Module) -> nn.Module:
    """A state that no method would choose: partly in training, partly frozen."""
    for index, (module, parameter) in enumerate(zip(model.modules(), model.parameters(), strict=False)):
        module.training = index % 3 != 0
        parameter.requires_grad_(index % 2 == 0)
    return model


def explain_all(model: nn.Module, inputs: Tensor) -> Tensor:
    return LatentTokenAttribution(model).attribute(inputs, token=[0, 1], output="tokens")


every = pytest.mark.parametrize("case", EXAMPLES, ids=lambda case: case.name)


@every
def test_maps_do_not_depend_on_modes_and_flags(case: Case) -> None:
    model, inputs = case.model(), case.inputs()
    expected = explain_all(model, inputs)
    with torch.no_grad():
        assert torch.equal(explain_all(model, inputs), expected)
    with torch.inference_mode():
        assert torch.equal(explain_all(model, inputs), expected)
        assert torch.equal(explain_all(model, inputs.clone()), expected), "an input made in inference mode"
    assert torch.equal(explain_all(model.train(), inputs), expected)
    assert torch.equal(explain_all(model.requires_grad_(False).eval(), inputs), expected)
    assert torch.equal(explain_all(unusual(model), inputs), expected)


@every
def test_left_as_found(case: Case) -> None:
    model, inputs = unusual(case.model()), case.inputs()
    given, model_before, torch_before = inputs.clone(), state_of(model), state_of_torch()
    explain_all(model, inputs)
    assert_same(state_of(model), model_before)
    assert_same(state_of_torch(), torch_before)
    assert torch.equal(inputs, given) and not inputs.requires_grad


@every
def test_left_as_found_after_an_exception(case: Case) -> None:
    model, inputs = unusual(case.model()), case.inputs()
    blocks = list(model.get_submodule(case.blocks))
    # In a block, late: its attention has run, its hooks are half way.
    inside = {module for block in blocks for module in block.modules()}
    embedding = [m for m in model.modules() if isinstance(m, nn.Conv2d | nn.Embedding) and m not in inside]
    late = [[m for m in block.modules() if isinstance(m, nn.LayerNorm | nn.Linear)][-1:] for block in blocks]

    def explode(*_: Any) -> None:
        raise KeyError("thrown inside the model")

    for culprits in (embedding, late[0], late[-1]):
        if not culprits:  # the model is given embeddings
            continue
        handles = [culprit.register_forward_pre_hook(explode) for culprit in culprits]
        model_before, torch_before = state_of(model), state_of_torch()
        with pytest.raises(KeyError, match="thrown inside the model"):
            explain_all(model, inputs)
        assert_same(state_of(model), model_before)
        assert_same(state_of_torch(), torch_before)
        for handle in handles:
            handle.remove()


@pytest.mark.parametrize("name", ["open_clip-vision-tower", "torchvision-vit", "torch-encoder-postnorm"])
@pytest.mark.parametrize("enabled", [True, False])
def test_the_fast_path_switch_is_put_back_where_it_was(name: str, enabled: bool) -> None:
    case = case_named(name)
    model, inputs = case.model().requires_grad_(False), case.inputs()
    before = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(enabled)
        with torch.no_grad():
            output = case.call(model, inputs)
            explain_all(model, inputs)
            assert torch.equal(case.call(model, inputs), output)
        assert torch.backends.mha.get_fastpath_enabled() is enabled
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


@pytest.mark.parametrize("name", ["timm-vit", "hf-GPT2LMHeadModel-sdpa"])
def test_the_users_own_hooks_run_and_stay(name: str) -> None:
    case = case_named(name)
    model, inputs = case.model(), case.inputs()
    expected, seen = explain_all(model, inputs), []
    handle = model.get_submodule(case.blocks)[0].register_forward_hook(lambda *_: seen.append("hook"))
    for _ in range(2):  # what a hook adds is looked at once
        seen.clear()
        assert torch.equal(explain_all(model, inputs), expected)
    assert seen == ["hook"]
    handle.remove()


def test_copies_and_pickles_explain_alike() -> None:
    case = case_named("torchvision-vit")
    lta, inputs = LatentTokenAttribution(case.model()), case.inputs()
    expected = lta.attribute(inputs, token=(1, 2))
    assert torch.equal(copy.deepcopy(lta).attribute(inputs, token=(1, 2)), expected)
    assert torch.equal(pickle.loads(pickle.dumps(lta)).attribute(inputs, token=(1, 2)), expected)
