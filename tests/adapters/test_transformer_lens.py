"""TransformerLens bridges: the maps of the bridge are those of the transformers model within it."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from captum_ultra import LatentTokenAttribution
from tests.attr.test_models_as_found import assert_same, state_of, state_of_torch
from tests.builders import case_named
from tests.reference.ultra import explain

BRIDGED = [
    "GPT2LMHeadModel-sdpa", "LlamaForCausalLM-sdpa", "GPTNeoXForCausalLM-eager", "Gemma2ForCausalLM-eager",
    "BertForMaskedLM-sdpa", "ViTForImageClassification-sdpa",
]  # fmt: skip


def bridge_of(model: Any) -> Any:
    """Works on the model in place, so what the model says by itself has to be asked before."""
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    return build_bridge_from_module(model, type(model).__name__, hf_config=model.config).eval()


@pytest.mark.parametrize("name", BRIDGED)
def test_a_bridge_equals_the_loop_over_the_maps_of_its_model(name: str) -> None:
    case = case_named(f"hf-{name}")
    model, inputs = case.model(), case.inputs()
    recording = case.record(model, inputs)
    lta = LatentTokenAttribution(bridge_of(model))
    for layer in (1, case.depth):
        for score in ("sum", "energy"):
            row = lta.attribute(inputs, token=5, layer=layer, score=score, self_token="zero", output="tokens")
            expected = explain(recording, 5, layer, score, self_token="zero")
            torch.testing.assert_close(row, expected, rtol=0, atol=1e-5 * expected.max().item())


def test_a_bridge_is_left_as_found() -> None:
    case = case_named("hf-LlamaForCausalLM-sdpa")
    bridge, inputs = bridge_of(case.model()), case.inputs()
    bridge(inputs)  # the first run of a bridge installs hooks of its own
    bridge.train()
    before, torch_before = state_of(bridge), state_of_torch()
    LatentTokenAttribution(bridge).attribute(inputs, token="all")
    assert_same(state_of(bridge), before)
    assert_same(state_of_torch(), torch_before)
