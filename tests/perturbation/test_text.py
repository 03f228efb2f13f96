"""Comprehensiveness and sufficiency: equal to a loop over single texts, and true where the truth is known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_ultra.perturbation import FaithfulnessCurve, TokenScores, comprehensiveness, sufficiency
from tests.adapters.test_transformer_lens import bridge_of
from tests.perturbation.models import Witness, causal_model, scored_text
from tests.reference.faithfulness import erasure_curve, lost

METRICS = {"comprehensiveness": comprehensiveness, "sufficiency": sufficiency}
K = (1, 5, 10, 20, 50)
FEW: dict[str, Any] = {"random_orders": 3}
LLAMA, GPT2 = causal_model("LlamaForCausalLM"), causal_model("GPT2LMHeadModel")


def order_of(scores: Tensor) -> list[int]:
    values = scores.tolist()
    return sorted(range(len(values)), key=lambda index: (-values[index], index))


def orders_drawn(count: int, sources: int, seed: int) -> list[list[int]]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randperm(sources, generator=generator).tolist() for _ in range(count)]


def expected_curves(
    logits: Callable[[Tensor], Tensor], text: TokenScores, orders: list[list[int]], *options: Any
) -> Tensor:
    ids, sources, targets = (each.tolist() for each in (text.input_ids, text.source_positions, text.target_positions))
    curves = [erasure_curve(logits, ids, sources, targets, order, *options) for order in orders]
    return torch.tensor(curves, dtype=torch.float64)


def assert_equals_the_loop(
    result: FaithfulnessCurve, logits: Callable[[Tensor], Tensor], text: TokenScores, seed: int = 0, **tolerance: float
) -> None:
    control = len(result.control.curves)
    orders = [order_of(text.scores), *orders_drawn(control, len(text.source_positions), seed)]
    expected = expected_curves(logits, text, orders, result.k, result.metric, result.measure, result.replacement)
    tolerance = tolerance or {"rtol": 0, "atol": 1e-10}
    torch.testing.assert_close(result.curve, expected[0], **tolerance)
    torch.testing.assert_close(result.control.curves, expected[1:], **tolerance)


@pytest.mark.parametrize("replacement", [None, 7])
@pytest.mark.parametrize("measure", ["log_probability", "probability"])
@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("model", [LLAMA, GPT2], ids=["Llama", "GPT-2"])
def test_equals_the_loop_over_single_texts(model: Any, metric: str, measure: str, replacement: int | None) -> None:
    text = scored_text()
    result = METRICS[metric](model, text, measure=measure, replacement=replacement, seed=3, **FEW)
    assert_equals_the_loop(result, lambda ids: model(input_ids=ids).logits, text, seed=3)
    assert result.k == K and result.top == (1, 1, 2, 3, 7)
    assert len(set(result.curve.tolist())) == 4, "the removed tokens must matter for this test to mean anything"


@st.composite
def texts(draw: st.DrawFn) -> TokenScores:
    """Sources and targets anywhere, targets between sources included; the first token is neither."""
    length = draw(st.integers(3, 20))
    kinds = draw(st.lists(st.sampled_from("stn"), min_size=length - 1, max_size=length - 1))
    kinds[draw(st.integers(0, length - 3))] = "s"
    kinds[-1] = "t"
    places = torch.tensor([0, *map(ord, kinds)])
    sources = (places == ord("s")).nonzero()[:, 0]
    scores = draw(st.lists(st.integers(-2, 2), min_size=len(sources), max_size=len(sources)))  # ties are common
    ids = torch.tensor(draw(st.lists(st.integers(0, 49), min_size=length, max_size=length)))
    return TokenScores(ids, sources, (places == ord("t")).nonzero()[:, 0], torch.tensor(scores).float())


@settings(max_examples=40, deadline=None)
@given(
    text=texts(),
    k=st.lists(st.floats(0.5, 100), min_size=1, max_size=4, unique=True).map(sorted),
    metric=st.sampled_from(sorted(METRICS)),
    replacement=st.sampled_from([None, 0, 49]),
    batch=st.sampled_from([None, 1, 2, 5]),
    seed=st.integers(0, 99),
)
def test_equals_the_loop_for_any_text(
    text: TokenScores, k: list[float], metric: str, replacement: int | None, batch: int | None, seed: int
) -> None:
    result = METRICS[metric](
        LLAMA, text, k=k, replacement=replacement, internal_batch_size=batch, seed=seed, random_orders=2
    )
    assert_equals_the_loop(result, lambda ids: LLAMA(input_ids=ids).logits, text, seed=seed)


@pytest.mark.parametrize("metric", METRICS)
def test_a_bridge_equals_the_loop(metric: str) -> None:
    bridge, text = bridge_of(causal_model("LlamaForCausalLM")), scored_text()
    assert_equals_the_loop(METRICS[metric](bridge, text, **FEW), bridge, text)
    ours = METRICS[metric](LLAMA, text, **FEW).curve
    torch.testing.assert_close(METRICS[metric](bridge, text, **FEW).curve, ours, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_lower_precision_stays_close(dtype: torch.dtype) -> None:
    text = scored_text()
    exact = comprehensiveness(LLAMA, text, **FEW).curve
    ours = comprehensiveness(causal_model("LlamaForCausalLM").to(dtype), text, **FEW).curve
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(ours, exact, rtol=0, atol=tolerance)


# What is known by construction: Witness gives its token the probability TOLD once the key has been read.

TOLD, UNTOLD = math.exp(2) / (math.exp(2) + 5), 1 / 6
KEYED = TokenScores(
    input_ids=torch.tensor([0, 2, 4, 5, 1, 2, 4, 5, 2, 4, 5, 3]),
    source_positions=torch.arange(1, 11),
    target_positions=torch.tensor([11]),
    scores=torch.tensor([0, 0, 0, 9.0, 0, 0, 0, 0, 0, 0]),
)


@pytest.mark.parametrize(
    ("measure", "loss"), [("log_probability", math.log(TOLD / UNTOLD)), ("probability", TOLD - UNTOLD)]
)
def test_the_token_that_matters_is_missed(measure: str, loss: float) -> None:
    """The key is one of ten tokens: a random order removes it with its top k % in k % of all cases."""
    result = comprehensiveness(Witness(), KEYED, k=(10, 50), measure=measure, random_orders=400)
    torch.testing.assert_close(result.curve, torch.tensor([loss, loss]).double())
    torch.testing.assert_close(result.control.curve, torch.tensor([0.1, 0.5]).double() * loss, rtol=0, atol=0.1 * loss)
    assert result.unperturbed == pytest.approx(math.log(TOLD) if measure == "log_probability" else TOLD)
    low, high = result.control.interval
    assert (low <= result.control.curve).all() and (result.control.curve <= high).all() and (high < loss).all()
    assert (result.difference > 0).all() and result.mean_difference > 0
    alone = sufficiency(Witness(), KEYED, k=(10, 50), measure=measure, random_orders=400)
    torch.testing.assert_close(alone.curve, torch.zeros(2).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(alone.control.curve, torch.tensor([0.9, 0.5]).double() * loss, rtol=0, atol=0.1 * loss)
    assert alone.p_value < 0.15 and alone.mean_difference < 0


def test_log_probabilities_of_half_precision_logits_are_not_rounded_again() -> None:
    """Logits of 0 and 2 are exact in bfloat16; their log-softmax is not."""
    result = comprehensiveness(Witness(dtype=torch.bfloat16), KEYED, k=[10])
    assert result.unperturbed == pytest.approx(math.log(TOLD), abs=1e-6)
    assert result.curve.item() == pytest.approx(math.log(TOLD / UNTOLD), abs=1e-6)


def test_scores_that_miss_the_key_look_as_bad_as_they_are() -> None:
    inverted = comprehensiveness(Witness(), KEYED, scores=-KEYED.scores, k=(10, 50))
    torch.testing.assert_close(inverted.curve, torch.zeros(2).double())
    assert inverted.p_value == 1 and inverted.mean_difference < 0


def test_all_targets_count_alike() -> None:
    """The first target comes before the key, so only the second one loses."""
    text = TokenScores(torch.tensor([0, 3, 1, 3]), torch.tensor([2]), torch.tensor([1, 3]), torch.ones(1))
    result = comprehensiveness(Witness(), text, k=[100], measure="probability", random_orders=2)
    assert result.curve.item() == pytest.approx((TOLD - UNTOLD) / 2)


def test_the_whole_context() -> None:
    text = scored_text()
    everything = comprehensiveness(LLAMA, text, k=[100], **FEW)
    assert everything.top == (14,)
    torch.testing.assert_close(everything.control.curves, everything.curve.expand(3, 1), rtol=0, atol=1e-10)
    nothing = sufficiency(LLAMA, text, k=[100], **FEW).curve
    torch.testing.assert_close(nothing, torch.zeros(1).double(), rtol=0, atol=1e-10)


def test_the_two_measures_are_one_removal() -> None:
    """All but the top half is the top half of the opposite order (14 tokens, so nothing is rounded)."""
    text = scored_text()
    kept = sufficiency(LLAMA, text, k=[50], **FEW).curve
    removed = comprehensiveness(LLAMA, text, scores=-text.scores, k=[50], **FEW).curve
    torch.testing.assert_close(kept, removed, rtol=0, atol=1e-10)


def test_equal_scores_go_from_the_left() -> None:
    text = scored_text()
    flat = comprehensiveness(LLAMA, text, scores=torch.zeros(14), **FEW).curve
    falling = comprehensiveness(LLAMA, text, scores=-torch.arange(14.0), **FEW).curve
    assert torch.equal(flat, falling)


def test_replaced_by_the_name_of_a_token() -> None:
    class Tokenizer:
        unk_token, unk_token_id = "<unk>", 0

        def convert_tokens_to_ids(self, token: str) -> int:
            return {"_": 7}.get(token, 0)

    text = scored_text()
    by_name = comprehensiveness(LLAMA, text, replacement="_", tokenizer=Tokenizer(), **FEW)
    assert torch.equal(by_name.curve, comprehensiveness(LLAMA, text, replacement=7, **FEW).curve)
    assert comprehensiveness(LLAMA, text, replacement="<unk>", tokenizer=Tokenizer(), **FEW).replacement == 0
    with pytest.raises(ValueError, match=r"'two words' is no single token.*get_vocab"):
        comprehensiveness(LLAMA, text, replacement="two words", tokenizer=Tokenizer())


def test_the_reference_knows_what_is_lost() -> None:
    """The reference itself, where the truth is known by hand."""
    ids = KEYED.input_ids.tolist()
    assert lost(Witness(), ids, [11], {4}, "probability", None) == pytest.approx(TOLD - UNTOLD)
    assert lost(Witness(), ids, [11], {3, 5}, "probability", 1) == pytest.approx(0)
