"""On every model: the one batched pull-back equals the loop of backward passes over stored maps."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from captum_ultra import LatentTokenAttribution
from tests.builders import CASES, Case, case_named
from tests.reference.recording import Recording
from tests.reference.ultra import Score, explain


def targets_of(case: Case) -> list[int]:
    """The first token, the first patch, one in the middle, and the last."""
    return sorted({0, case.prefix, case.tokens // 2, case.tokens - 1})


def assert_rows_equal(rows: Tensor, expected: Tensor, tolerance: float) -> None:
    """Compare relative to the largest entry; the self entry, which would hide the others, is zeroed."""
    torch.testing.assert_close(rows, expected, rtol=0, atol=tolerance * expected.max().item())


def expected_rows(case: Case, recording: Recording, tokens: list[int], layer: int, score: Score = "sum") -> Tensor:
    return torch.stack([explain(recording, i, layer, score, self_token="zero") for i in tokens], dim=1)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_equals_the_loop_over_stored_maps(case: Case) -> None:
    model, inputs, tokens = case.model(), case.inputs(), targets_of(case)
    lta, recording = LatentTokenAttribution(model), case.record(model, inputs)
    for layer in (1, 2, case.depth):
        for score in ("sum", "energy"):
            rows = lta.attribute(inputs, token=tokens, layer=layer, score=score, self_token="zero", output="tokens")
            assert rows.shape == (2, len(tokens), case.tokens)
            assert_rows_equal(rows, expected_rows(case, recording, tokens, layer, score), 1e-5)


# Experts have no kernel in float64; GPT-Neo computes its scores in float32 whatever it is given.
NOT_IN_FLOAT64 = ("GptOss", "Mixtral", "GPTNeoFor")
FLOAT64 = [case for case in CASES if not any(name in case.name for name in NOT_IN_FLOAT64)]


@pytest.mark.parametrize("case", FLOAT64, ids=lambda case: case.name)
def test_equals_the_loop_in_float64(case: Case) -> None:
    model, inputs, tokens = case.model(torch.float64), case.inputs(torch.float64), targets_of(case)
    rows = LatentTokenAttribution(model).attribute(inputs, token=tokens, self_token="zero", output="tokens")
    assert rows.dtype == torch.float64
    expected = expected_rows(case, case.record(model, inputs), tokens, case.depth)
    assert_rows_equal(rows, expected, 1e-12)


EXAMPLES = ["timm-dinov2-registers", "hf-LlamaForCausalLM-sdpa", "hf-BloomForCausalLM-eager", "torch-encoder-postnorm"]


@pytest.mark.parametrize("name", EXAMPLES)
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("score", ["sum", "energy", "vector", "matrix"])
@pytest.mark.parametrize("self_token", ["max", "keep", "zero"])
def test_every_score_and_self_entry(name: str, score: str, normalize: bool, self_token: str) -> None:
    case = case_named(name)
    model, inputs, token = case.model(), case.inputs(), case.tokens - 2
    recording = case.record(model, inputs)
    n, d = recording.latents[0].shape[1:]
    weights = {"vector": torch.randn(d), "matrix": torch.randn(n, d)}
    given: Score = weights.get(score, score)
    row = LatentTokenAttribution(model).attribute(
        inputs, token=token, layer=2, score=given, normalize=normalize, self_token=self_token, output="tokens"
    )
    expected = explain(recording, token, 2, given, normalize, self_token)
    others = explain(recording, token, 2, given, normalize, "zero").max()
    torch.testing.assert_close(row, expected, rtol=0, atol=1e-5 * max(others.item(), 0.01))


@pytest.mark.parametrize("name", EXAMPLES)
def test_all_tokens_in_chunks_of_any_size(name: str) -> None:
    case = case_named(name)
    model, inputs = case.model(), case.inputs()
    expected = expected_rows(case, case.record(model, inputs), list(range(case.tokens)), case.depth)
    for chunk in (None, 1, 4):
        rows = LatentTokenAttribution(model).attribute(
            inputs, token="all", self_token="zero", output="tokens", internal_batch_size=chunk
        )
        assert_rows_equal(rows, expected, 1e-5)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_embedding_explains_itself(case: Case) -> None:
    model, inputs = case.model(), case.inputs()
    row = LatentTokenAttribution(model).attribute(inputs, token=1, layer=0, self_token="keep", output="tokens")
    assert torch.equal(row, explain(case.record(model, inputs), 1, 0, self_token="keep"))


IMAGES = [case for case in CASES if case.grid]


@pytest.mark.parametrize("case", IMAGES, ids=lambda case: case.name)
def test_patches_are_the_grid_of_the_input(case: Case) -> None:
    """``patches`` drops the prefix before the self entry is set; (row, column) counts on the real grid."""
    assert case.grid is not None
    model, inputs = case.model(), case.inputs()
    lta, recording = LatentTokenAttribution(model), case.record(model, inputs)
    rows, columns = case.grid
    patch = (rows - 1, 1)
    token = case.prefix + patch[0] * columns + patch[1]
    map_of_patch = lta.attribute(inputs, token=patch, output="patches")
    expected = explain(recording, token, case.depth, columns=slice(case.prefix, None))[:, case.prefix :]
    assert_rows_equal(map_of_patch, expected, 1e-5)
    assert lta.attribute(inputs, token="patches", output="patches").shape == (2, rows * columns, rows * columns)
    enlarged = lta.attribute(inputs, token=patch, interpolation="nearest")
    height, width = case.shape[2:]
    grid = enlarged[:, 0, :: height // rows, :: width // columns]
    torch.testing.assert_close(grid.flatten(1), map_of_patch)


LONG = {"timm-vit-dynamic": (2, 3, 128, 128), "hf-LlamaForCausalLM-sdpa": (2, 300), "plain-fused": (2, 300)}


@pytest.mark.parametrize("name", LONG)
def test_more_tokens_and_targets_than_one_tile_holds(name: str) -> None:
    """In one chunk: the backward pass then has to cut the query rows of every head into tiles."""
    case = replace(case_named(name), shape=LONG[name])
    model, inputs = case.model(), case.inputs()
    recording = case.record(model, inputs)
    tokens = list(range(5, 255, 8))
    rows = LatentTokenAttribution(model).attribute(
        inputs, token=tokens, self_token="zero", output="tokens", internal_batch_size=len(tokens)
    )
    assert_rows_equal(rows, expected_rows(case, recording, tokens, case.depth), 1e-5)
