"""The reference itself: its two ways to the maps agree, and its row is the row of its matrix."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import CASES, DEPTH
from tests.reference.recording import explicit_attention, record_outputs
from tests.reference.ultra import contribution, explain, explanation_matrix, explanation_row, replace_self_entry

EAGER = [case for case in CASES if case.name.endswith("-eager")]

shapes = st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 6), st.integers(1, 4))


def random_maps(seed: int, batch: int, heads: int, n: int, depth: int) -> Any:
    generator = torch.Generator().manual_seed(seed)

    def draw() -> list[torch.Tensor]:
        return [torch.randn(batch, heads, n, n, generator=generator, dtype=torch.float64) for _ in range(depth)]

    return [each.softmax(-1) for each in draw()], draw()


@settings(max_examples=30, deadline=None)
@given(shapes, st.integers(0, 1000))
def test_row_form_is_the_row_of_the_matrix_form(shape: tuple[int, int, int, int], seed: int) -> None:
    maps, gradients = random_maps(seed, *shape)
    matrix = explanation_matrix(maps, gradients)
    for token in range(shape[2]):
        torch.testing.assert_close(explanation_row(maps, gradients, token), matrix[:, token])


def test_contribution_worked_by_hand() -> None:
    probabilities = torch.tensor([[[[0.5, 0.5], [0.25, 0.75]], [[1.0, 0.0], [0.5, 0.5]]]])
    gradient = torch.tensor([[[[2.0, -2.0], [4.0, 0.0]], [[0.0, 9.0], [-1.0, 2.0]]]])
    expected = torch.tensor([[[1.5, 0.0], [0.5, 1.5]]])
    torch.testing.assert_close(contribution(probabilities, gradient), expected)


def test_order_of_the_product_matters() -> None:
    """The order the paper prints, against that of the flow of information: they differ a lot."""
    maps, gradients = random_maps(0, 1, 4, 6, 3)
    flow = explanation_matrix(maps, gradients)
    printed = explanation_matrix(maps[::-1], gradients[::-1])
    off_diagonal = ~torch.eye(6, dtype=torch.bool)
    difference = (flow - printed)[:, off_diagonal].abs().max() / flow[:, off_diagonal].max()
    assert difference > 0.1


@pytest.mark.parametrize(
    "rule, expected", [("keep", [2.0, 5.0, 3.0]), ("zero", [2.0, 0.0, 3.0]), ("max", [2.0, 3.0, 3.0])]
)
def test_self_entry(rule: str, expected: list[float]) -> None:
    row = torch.tensor([[2.0, 5.0, 3.0]])
    assert replace_self_entry(row, 1, rule).tolist() == [expected]
    assert row.tolist() == [[2.0, 5.0, 3.0]]


@pytest.mark.parametrize("mask", ["none", "causal", "boolean", "additive", "per-head"])
@pytest.mark.parametrize("grouped", [False, True])
def test_explicit_attention_is_the_fused_one(mask: str, grouped: bool) -> None:
    query = torch.randn(2, 4, 5, 8, dtype=torch.float64)
    key, value = torch.randn(2, 2, 2 if grouped else 4, 5, 8, dtype=torch.float64)
    options: dict[str, Any] = {"enable_gqa": grouped, "scale": 0.3}
    if mask == "causal":
        options["is_causal"] = True
    elif mask == "boolean":
        options["attn_mask"] = torch.rand(2, 1, 5, 5) > 0.4
    elif mask != "none":
        options["attn_mask"] = torch.randn(2, 4 if mask == "per-head" else 1, 5, 5, dtype=torch.float64)
    output, probabilities = explicit_attention(query, key, value, **options)
    torch.testing.assert_close(output, F.scaled_dot_product_attention(query, key, value, **options))
    assert probabilities.shape == (2, 4, 5, 5)


@pytest.mark.parametrize("case", EAGER, ids=lambda case: case.name)
def test_recorded_maps_are_those_that_transformers_returns(case: Any) -> None:
    model, inputs = case.model(), case.inputs()
    blocks = list(model.get_submodule(case.blocks))
    recorded = case.record(model, inputs)
    returned = record_outputs(lambda **extra: model(inputs, **extra), model, blocks)
    for ours, theirs in zip(recorded.maps, returned.maps, strict=True):
        torch.testing.assert_close(recorded.by_head(ours), returned.by_head(theirs))
    for layer in range(DEPTH + 1):
        torch.testing.assert_close(explain(recorded, 2, layer), explain(returned, 2, layer))


@pytest.mark.parametrize("case", EAGER, ids=lambda case: case.name)
def test_fused_and_eager_attention_have_the_same_maps(case: Any) -> None:
    fused = next((each for each in CASES if each.name == case.name.replace("-eager", "-sdpa")), None)
    if fused is None:
        pytest.skip("has eager attention only")
    inputs = case.inputs()
    ours, theirs = (each.record(each.model(), inputs) for each in (fused, case))
    row, expected = explain(ours, case.tokens - 1, DEPTH), explain(theirs, case.tokens - 1, DEPTH)
    torch.testing.assert_close(row, expected, rtol=0, atol=1e-5 * expected.max().item())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_builders_give_maps_worth_comparing(case: Any) -> None:
    """Neither uniform nor one-hot attention, and relevance beside the self entry."""
    recording = case.record(case.model(), case.inputs())
    assert recording.latents[0].shape[:2] == (2, case.tokens)
    for probabilities in recording.maps:
        sharpness = recording.by_head(probabilities.detach())[:, :, -1].amax(-1).mean().item()
        assert 1.2 / case.tokens < sharpness < 0.95
    row = explain(recording, case.tokens - 1, case.depth, self_token="zero")
    assert (row > 0).sum(dim=1).min() >= 2
