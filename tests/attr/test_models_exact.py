"""On every model: the one batched pull-back equals the loop of backward passes over stored maps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from captum_ultra import LatentTokenAttribution
from tests.builders import FAMILIES, Case, case_named, stir
from tests.reference.recording import Recording, record
from tests.reference.ultra import Score, explain

# Experts have no kernel in float64; GPT-Neo computes its scores in float32 whatever it is given.
NOT_IN_FLOAT64 = ("GptOss", "Mixtral", "GPTNeoFor")
# Norms in float32, through which the gradients of values and of probabilities go down one by one.
NORMS_IN_FLOAT32 = ("T5EncoderModel-eager", "LlamaForCausalLM-eager", "Gemma2ForCausalLM-eager")


def targets_of(case: Case) -> list[int]:
    """The first token, the first patch, one in the middle, and the last."""
    return sorted({0, case.prefix, case.tokens // 2, case.tokens - 1})


def assert_rows_equal(rows: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    """Compare relative to the largest entry; the self entry, which would hide the others, is zeroed."""
    torch.testing.assert_close(rows, expected, rtol=0, atol=tolerance * expected.max().item())


def expected_rows(recording: Recording, tokens: list[int], layer: int, score: Score = "sum") -> Tensor:
    return torch.stack([explain(recording, i, layer, score, self_token="zero") for i in tokens], dim=1)


@pytest.mark.parametrize("case", FAMILIES, ids=lambda case: case.name)
def test_equals_the_loop_over_stored_maps(case: Case) -> None:
    """Every layer from one run; at the embedding a token explains itself."""
    exact = not any(name in case.name for name in NOT_IN_FLOAT64)
    dtype, tolerance = (torch.float64, 1e-12) if exact else (torch.float32, 1e-5)
    tolerance = 1e-6 if any(name in case.name for name in NORMS_IN_FLOAT32) else tolerance
    model, inputs, tokens = case.model(dtype), case.inputs(dtype), targets_of(case)
    lta, recording = LatentTokenAttribution(model), case.record(model, inputs)
    layers = [1, case.depth, 2]
    for score in ("sum", "energy"):
        found = lta.attribute(inputs, token=tokens, layer=layers, score=score, self_token="zero", output="tokens")
        for layer, rows in zip(layers, found, strict=True):
            assert rows.shape == (2, len(tokens), case.tokens) and rows.dtype == dtype
            assert_rows_equal(rows, expected_rows(recording, tokens, layer, score), tolerance)
    row = lta.attribute(inputs, token=1, layer=0, self_token="keep", output="tokens")
    assert torch.equal(row, explain(recording, 1, 0, self_token="keep"))


EXAMPLES = ["timm-dinov2-registers", "hf-LlamaForCausalLM-sdpa"]


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("score", ["sum", "energy", "vector", "matrix"])
def test_every_score_and_self_entry(name: str, score: str, normalize: bool) -> None:
    case = case_named(name)
    model, inputs, token = case.model(torch.float64), case.inputs(torch.float64), case.tokens - 2
    recording = case.record(model, inputs)
    n, d = recording.latents[0].shape[1:]
    given: Score = {"vector": torch.randn(d), "matrix": torch.randn(n, d)}.get(score, score)
    others = explain(recording, token, 2, given, normalize, "zero").max().item()
    for self_token in ("max", "keep", "zero"):
        row = LatentTokenAttribution(model).attribute(
            inputs, token=token, layer=2, score=given, normalize=normalize, self_token=self_token, output="tokens"
        )
        expected = explain(recording, token, 2, given, normalize, self_token)
        torch.testing.assert_close(row, expected, rtol=0, atol=1e-12 * max(others, 0.01))


IMAGES = [
    "timm-vit-nonsquare", "timm-vit-dynamic", "timm-deit-distilled", "timm-dinov2-registers", "timm-siglip",
    "hf-ViTModel-sdpa", "hf-DINOv3ViTModel-sdpa", "hf-CLIPModel-image", "hf-SiglipModel-image", "open_clip-clip-image",
    "open_clip-timm-clip-image", "torchvision-vit",
]  # fmt: skip


@pytest.mark.parametrize("name", IMAGES)
def test_patches_are_the_grid_of_the_input(name: str) -> None:
    """``patches`` drops the prefix before the self entry is set; (row, column) counts on the real grid."""
    case = case_named(name)
    assert case.grid is not None
    model, inputs = case.model(), case.inputs()
    lta, recording = LatentTokenAttribution(model), case.record(model, inputs)
    rows, columns = case.grid
    patch = (rows - 1, 1)
    token = case.prefix + patch[0] * columns + patch[1]
    map_of_patch = lta.attribute(inputs, token=patch, score="sum", output="patches")
    expected = explain(recording, token, case.depth, columns=slice(case.prefix, None))[:, case.prefix :]
    assert_rows_equal(map_of_patch, expected, 1e-5)
    assert lta.attribute(inputs, token="patches", output="patches").shape == (2, rows * columns, rows * columns)
    enlarged = lta.attribute(inputs, token=patch, score="sum", interpolation="nearest")
    height, width = case.shape[2:]
    torch.testing.assert_close(enlarged[:, 0, :: height // rows, :: width // columns].flatten(1), map_of_patch)


LONG = {"timm-vit-dynamic": (2, 3, 128, 128), "hf-LlamaForCausalLM-sdpa": (2, 300)}


@pytest.mark.parametrize("name", LONG)
def test_more_tokens_and_targets_than_one_tile_holds(name: str) -> None:
    """In one chunk: the backward pass then has to cut the query rows of every head into tiles."""
    case = replace(case_named(name), shape=LONG[name])
    model, inputs, tokens = case.model(torch.float64), case.inputs(torch.float64), list(range(5, 255, 8))
    rows = LatentTokenAttribution(model).attribute(
        inputs, token=tokens, score="sum", self_token="zero", output="tokens", internal_batch_size=len(tokens)
    )
    assert_rows_equal(rows, expected_rows(case.record(model, inputs), tokens, case.depth))


@pytest.mark.slow
def test_a_model_of_full_size() -> None:
    import timm

    model = stir(timm.create_model("vit_base_patch16_224", pretrained=False)).eval().double()
    images = torch.randn(1, 3, 224, 224, dtype=torch.float64)
    recording = record(lambda: model(images), model, list(model.blocks))
    rows = LatentTokenAttribution(model).attribute(
        images, token=[0, 99], score="energy", self_token="zero", output="tokens"
    )
    assert_rows_equal(rows, expected_rows(recording, [0, 99], 12, "energy"), 1e-9)
