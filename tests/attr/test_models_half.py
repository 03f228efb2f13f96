"""Models in half precision: they run, and the maps are those of float32 up to what the model rounds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from captum_ultra import LatentTokenAttribution
from captum_ultra.data.facts import write_document
from captum_ultra.models.llama import facts_llama, facts_tokenizer
from tests.builders import EXAMPLES, Case, case_named
from tests.reference.recording import record
from tests.reference.ultra import explain


def rows_of(case: Case, dtype: torch.dtype) -> Tensor:
    return LatentTokenAttribution(case.model(dtype)).attribute(
        case.inputs(dtype), token=[0, case.tokens - 1], score="sum", self_token="zero", output="tokens"
    )


# Rounding inside the models decides, not the engine: the float16 maps of the explicit reference are as far
# from float32 (a ReLU that flips is worth five percent). bfloat16 keeps 8 bits of a number, float16 11.
@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 0.25), (torch.float16, 0.06)], ids=["bf16", "fp16"])
@pytest.mark.parametrize("case", EXAMPLES, ids=lambda case: case.name)
def test_half_precision_is_close_to_float32(case: Case, dtype: torch.dtype, tolerance: float) -> None:
    rows, expected = rows_of(case, dtype), rows_of(case, torch.float32)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, expected, rtol=0, atol=tolerance * expected.max().item())
    likeness = torch.cosine_similarity(rows.flatten(), expected.flatten(), dim=0)
    assert likeness > (0.99 if dtype == torch.bfloat16 else 0.998)


@pytest.mark.parametrize("name", ["hf-LlamaForCausalLM-sdpa", "torchvision-vit"])
def test_autocast(name: str) -> None:
    case = case_named(name)
    with torch.autocast("cpu", torch.bfloat16):
        rows = rows_of(case, torch.float32)
        assert torch.is_autocast_enabled("cpu")
    expected = rows_of(case, torch.float32)
    assert not torch.equal(rows, expected), "the model ran in float32 in spite of autocast"
    torch.testing.assert_close(rows, expected, rtol=0, atol=0.1 * expected.max().item())


TARGETS = 20


def explain_last(model: Any, ids: Tensor, layer: int) -> Tensor:
    rows = LatentTokenAttribution(model).attribute(ids, token=range(-TARGETS, 0), layer=layer, score="sum")[0]
    assert rows.isfinite().all()
    return rows


def ranks_agree(rows: Tensor, expected: Tensor) -> list[float]:
    """Spearman's correlation of the rows of the last tokens, each over the tokens before it."""
    first = rows.shape[1] - TARGETS
    pairs = enumerate(zip(rows, expected, strict=True))
    return [float(spearmanr(row[: first + i], want[: first + i]).statistic) for i, (row, want) in pairs]


def test_bfloat16_loses_no_more_ranks_of_a_trained_model_than_an_explicit_loop() -> None:
    model = facts_llama()
    ids = facts_tokenizer()(write_document(seed=0, index=0).text, return_tensors="pt").input_ids
    exact, half = copy.deepcopy(model), model.bfloat16()
    recording = record(lambda: half(ids), half, list(half.model.layers))
    targets = range(ids.shape[1] - TARGETS, ids.shape[1])
    for layer in range(1, model.config.num_hidden_layers + 1):
        expected = explain_last(exact, ids, layer)
        ours = ranks_agree(explain_last(half, ids, layer), expected)
        loop = ranks_agree(torch.stack([explain(recording, each, layer)[0].float() for each in targets]), expected)
        assert sum(ours) > sum(loop) - 0.002 * TARGETS
        assert sum(ours) > 0.998 * TARGETS and min(ours) > 0.99
