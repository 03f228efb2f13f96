"""Every model in half precision: it runs, and the maps are those of float32 up to what the model rounds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

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


# A trained model, whose maps have a structure that ranks can get wrong.
STORIES = Path(__file__).parents[2].parent / "shared" / "data" / "stories260K"
TEXT = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a "
    "big, red ball. She wanted to play with it, but it was too high."
)
TARGETS = 20


def stories(dtype: torch.dtype, attention: str) -> tuple[nn.Module, Tensor]:
    if not STORIES.is_dir():
        pytest.skip("the trained model stories260K is not beside the repository")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(STORIES, dtype=dtype, attn_implementation=attention)
    return model.eval(), AutoTokenizer.from_pretrained(STORIES)(TEXT, return_tensors="pt").input_ids


def ranks_agree(rows: Tensor, expected: Tensor, targets: list[int]) -> list[float]:
    """Spearman's correlation of each target's row, over the tokens that it can see."""
    return [
        float(spearmanr(row[:target], want[:target]).statistic)
        for row, want, target in zip(rows, expected, targets, strict=True)
    ]


# The energy's rows of one block hold a sixth of exact zeros; a product whose sign is lost to rounding leaves or joins
# them, which moves it by many ranks at once. Hence 0.98 for the worst of its targets.
@pytest.mark.parametrize("score, worst", [("sum", 0.99), ("energy", 0.98)])
@pytest.mark.parametrize("attention", ["sdpa", "eager"])
@pytest.mark.parametrize("layer", range(1, 6))
def test_bfloat16_ranks_the_tokens_of_a_trained_model_as_float32_does(
    layer: int, attention: str, score: str, worst: float
) -> None:
    found = {}
    for dtype in (torch.bfloat16, torch.float32):
        model, ids = stories(dtype, attention)
        targets = list(range(ids.shape[1] - TARGETS, ids.shape[1]))
        found[dtype] = LatentTokenAttribution(model).attribute(ids, token=targets, layer=layer, score=score)[0]
    assert found[torch.bfloat16].isfinite().all()
    agreement = ranks_agree(found[torch.bfloat16], found[torch.float32], targets)
    mean = sum(agreement) / TARGETS
    print(f"layer {layer}, {attention}, {score}: Spearman mean {mean:.4f}, lowest of {TARGETS} {min(agreement):.4f}")
    assert mean > 0.998
    assert min(agreement) > worst
