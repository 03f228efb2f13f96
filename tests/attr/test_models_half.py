"""Every model in half precision: it runs, and the maps are those of float32 up to what the model rounds."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captum_ultra import LatentTokenAttribution
from tests.builders import CASES, Case, case_named


def rows_of(case: Case, dtype: torch.dtype) -> Tensor:
    return LatentTokenAttribution(case.model(dtype)).attribute(
        case.inputs(dtype), token=[0, case.tokens - 1], self_token="zero", output="tokens"
    )


# Rounding inside the models decides, not the engine: the float16 maps of the explicit reference are as far
# from float32 (a ReLU that flips is worth five percent). bfloat16 keeps 8 bits of a number, float16 11.
@pytest.mark.parametrize("dtype, tolerance", [(torch.bfloat16, 0.25), (torch.float16, 0.06)], ids=["bf16", "fp16"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_half_precision_is_close_to_float32(case: Case, dtype: torch.dtype, tolerance: float) -> None:
    rows, expected = rows_of(case, dtype), rows_of(case, torch.float32)
    assert rows.dtype == torch.float32
    torch.testing.assert_close(rows, expected, rtol=0, atol=tolerance * expected.max().item())
    likeness = torch.cosine_similarity(rows.flatten(), expected.flatten(), dim=0)
    assert likeness > (0.99 if dtype == torch.bfloat16 else 0.998)


@pytest.mark.parametrize(
    "name", ["timm-vit", "hf-LlamaForCausalLM-sdpa", "hf-BloomForCausalLM-eager", "torchvision-vit"]
)
def test_autocast(name: str) -> None:
    case = case_named(name)
    with torch.autocast("cpu", torch.bfloat16):
        rows = rows_of(case, torch.float32)
        assert torch.is_autocast_enabled("cpu")
    expected = rows_of(case, torch.float32)
    assert not torch.equal(rows, expected), "the model ran in float32 in spite of autocast"
    torch.testing.assert_close(rows, expected, rtol=0, atol=0.1 * expected.max().item())
