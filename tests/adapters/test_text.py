"""What a model says about the texts it can read: ids, positions, its name, its device."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from captum_ultra.adapters.text import input_device, longest_text, model_name, vocabulary_size
from tests.adapters.test_transformer_lens import bridge_of
from tests.attr.text_models import gpt2, llama
from tests.builders import Case, only_families
from tests.builders.transformers_models import TEXT

CONFIGURED = 24
TABLES = {
    "CLIPText",
    "GPT2",
    "OPT",
    "GPTBigCode",
    "GPTNeoForCausalLM",
    "Bert",
    "Roberta",
    "DistilBert",
    "Deberta",
    "Bart",
}
OTHERS = {"DistilBert": 512, "Roberta": 23}  # the default; one row of the 24 belongs to padding


@pytest.mark.parametrize("case", only_families(TEXT), ids=lambda case: case.name)
def test_a_limit_is_one_that_the_model_keeps(case: Case) -> None:
    model: Any = case.model()
    assert vocabulary_size(model) == 50
    has_table = any(f"-{name}" in case.name for name in TABLES)
    longest = longest_text(model)
    assert longest == (
        next((number for name, number in OTHERS.items() if name in case.name), CONFIGURED) if has_table else None
    )
    with torch.no_grad():
        model(input_ids=torch.full((1, longest or 2 * CONFIGURED), 5))
        if longest is not None:
            with pytest.raises((IndexError, RuntimeError, ValueError)):
                model(input_ids=torch.full((1, longest + 1), 5))


@pytest.mark.parametrize(("make", "limit"), [(llama, None), (gpt2, 64)])
def test_a_bridge_says_what_its_model_says(make: Any, limit: int | None) -> None:
    model = make()
    expected = vocabulary_size(model), longest_text(model), input_device(model)
    bridge = bridge_of(model)
    assert (vocabulary_size(bridge), longest_text(bridge), input_device(bridge)) == expected == (
        50, limit, torch.device("cpu"),
    )  # fmt: skip


def test_a_module_that_says_nothing_has_no_limits() -> None:
    model = nn.Linear(2, 2)
    assert vocabulary_size(model) is None and longest_text(model) is None
    assert model_name(model) == "Linear" and input_device(nn.Identity()) == torch.device("cpu")


def test_names(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = llama()
    assert model_name(model) == "LlamaForCausalLM" and model_name(bridge_of(llama())) == "TransformerBridge"
    model.config.name_or_path = "meta-llama/Llama-2-7b"
    assert model_name(model) == "meta-llama/Llama-2-7b"
    model.save_pretrained(tmp_path / "mine")
    assert model_name(AutoModelForCausalLM.from_pretrained(tmp_path / "mine")) == "mine", "no path of this machine"


def test_weights_that_are_fetched_while_running_take_ids_from_the_cpu() -> None:
    import accelerate

    model = llama()
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    assert input_device(model) == torch.device("cpu")
