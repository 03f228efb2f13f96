"""How the faithfulness tests run a model: once for equal texts, in bounded batches, and without a trace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_ultra.perturbation import comprehensiveness
from captum_ultra.perturbation import text_likelihood as likelihood
from tests.attr.test_models_as_found import assert_same, state_of, state_of_torch
from tests.perturbation.models import Witness, causal_model, scored_text
from tests.perturbation.test_text import FEW, KEYED, LLAMA, METRICS


def test_several_scores_share_one_control_and_one_whole_text() -> None:
    text, other = scored_text(), torch.randn(14)
    singles = [comprehensiveness(LLAMA, text, scores=scores, **FEW) for scores in (text.scores, other)]
    for scores in ({"ours": text.scores, "other": other}, [text.scores, other], torch.stack([text.scores, other])):
        both = comprehensiveness(LLAMA, text, scores=scores, **FEW)
        assert both.names == (("ours", "other") if isinstance(scores, dict) else ())
        assert both.curve.shape == both.difference.shape == (2, 5)
        for row, single in enumerate(singles):
            torch.testing.assert_close(both.curve[row], single.curve, rtol=0, atol=1e-10)
            torch.testing.assert_close(both.control.curves, single.control.curves, rtol=0, atol=1e-10)
            assert both.p_value[row] == single.p_value and both.mean.shape == both.mean_difference.shape == (2,)
    model = Witness()
    comprehensiveness(model, KEYED, scores=[KEYED.scores, -KEYED.scores], k=(10, 50), random_orders=4)
    assert [length for _, length in model.shapes] == [4, 12, 11, 7], "causality, the whole text, and two lengths"
    assert model.shapes[:2] == [(2, 4), (1, 12)]


def test_equal_texts_are_run_once() -> None:
    """Three k come to one token of ten; a hundred orders remove each of the ten."""
    model = Witness()
    result = comprehensiveness(model, KEYED, k=(1, 5, 10), random_orders=100)
    assert result.top == (1, 1, 1) and model.shapes[2:] == [(10, 11)]
    assert result.curve.shape == (3,) and result.control.curves.shape == (100, 3)


def test_an_order_that_removes_the_same_tokens_is_a_tie() -> None:
    """Also where a batch of another size would round differently."""
    text = scored_text(sources=1)
    for batch in (1, 3, None):
        result = comprehensiveness(causal_model("LlamaForCausalLM").float(), text, internal_batch_size=batch)
        assert (result.control.curves == result.curve).all() and result.p_value == 1


@pytest.mark.parametrize("metric", METRICS)
def test_batches_equal_the_loop(metric: str) -> None:
    text = scored_text()
    alone = METRICS[metric](LLAMA, text, internal_batch_size=1)
    for batch in (2, 7, None):
        together = METRICS[metric](LLAMA, text, internal_batch_size=batch)
        torch.testing.assert_close(together.control.curves, alone.control.curves, rtol=0, atol=1e-10)
        torch.testing.assert_close(together.curve, alone.curve, rtol=0, atol=1e-10)


def test_batches_stay_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likelihood, "TOKENS_AT_ONCE", 50)
    model = Witness()
    comprehensiveness(model, KEYED, k=(10, 50))
    assert max(batch for batch, length in model.shapes if length == 11) == 4
    assert max(batch for batch, length in model.shapes if length == 7) == 7
    monkeypatch.setattr(likelihood, "LOGITS_AT_ONCE", 6 * 7 * 2)
    model.shapes.clear()
    comprehensiveness(model, KEYED, k=(10, 50))
    assert max(batch for batch, length in model.shapes if length == 11) == 1
    assert max(batch for batch, length in model.shapes if length == 7) == 2


def test_logits_are_computed_only_where_they_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    text, rows = scored_text(), []
    handle = LLAMA.lm_head.register_forward_hook(lambda module, args, output: rows.append(output.shape[1]))
    try:
        comprehensiveness(LLAMA, text, **FEW)
    finally:
        handle.remove()
    assert rows[0] == 4 and set(rows[1:]) == {5}, "four targets, predicted one place earlier"

    class WithoutChoice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = LLAMA

        def forward(self, input_ids: Tensor) -> Any:
            return self.model(input_ids=input_ids)

    all_rows = comprehensiveness(WithoutChoice(), text, **FEW)
    torch.testing.assert_close(all_rows.curve, comprehensiveness(LLAMA, text, **FEW).curve, rtol=0, atol=1e-10)


# The control.


def test_the_control_is_reproducible_by_seed() -> None:
    text = scored_text()
    first, again, other = (comprehensiveness(LLAMA, text, seed=seed, random_orders=4) for seed in (5, 5, 6))
    assert torch.equal(first.control.curves, again.control.curves)
    assert torch.equal(first.control.interval, again.control.interval)
    assert not torch.equal(first.control.curves, other.control.curves)
    by_generator = comprehensiveness(LLAMA, text, seed=torch.Generator().manual_seed(5), random_orders=4)
    assert torch.equal(first.control.curves, by_generator.control.curves)
    assert torch.equal(first.curve, other.curve)


# The model is left alone.


@pytest.mark.parametrize("metric", METRICS)
def test_the_model_is_left_as_found(metric: str) -> None:
    model = causal_model("GPT2LMHeadModel").train()  # with dropout
    before, torch_before = state_of(model), state_of_torch()
    result = METRICS[metric](model, scored_text(), **FEW)
    assert_same(state_of(model), before)
    assert_same(state_of_torch(), torch_before)
    assert torch.equal(result.curve, METRICS[metric](model.eval(), scored_text(), **FEW).curve)
    with torch.inference_mode():
        assert torch.equal(result.curve, METRICS[metric](model, scored_text(), **FEW).curve)


def test_the_model_is_left_as_found_after_an_exception() -> None:
    model = causal_model("LlamaForCausalLM").train()
    before = state_of(model)
    calls = []

    def fail_late(module: nn.Module, args: Any) -> None:
        calls.append(module)
        if len(calls) == 3:
            raise RuntimeError("interrupted")

    handle = model.lm_head.register_forward_pre_hook(fail_late)
    with pytest.raises(RuntimeError, match="interrupted"):
        comprehensiveness(model, scored_text(), **FEW)
    handle.remove()
    assert_same(state_of(model), before)


def test_progress_is_shown_only_when_asked(capsys: pytest.CaptureFixture[str]) -> None:
    comprehensiveness(Witness(), KEYED)
    assert capsys.readouterr().err == ""
    comprehensiveness(Witness(), KEYED, show_progress=True)
    assert "64/64" in capsys.readouterr().err, "the whole text, and 21 orders at three lengths"
