"""Bad input to the faithfulness tests: one message that says what to do, before the model runs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_ultra import UnsupportedModelError
from captum_ultra.perturbation import comprehensiveness, sufficiency
from tests.builders import case_named
from tests.perturbation.models import Witness, causal_model, scored_text
from tests.perturbation.test_text import KEYED

BAD_TEXTS = [
    ({"scores": torch.ones(9)}, r"scores must be a tensor \[10\], one score for each source position, got \[9\]"),
    ({"scores": torch.ones(2, 9)}, r"scores\[0\] must be a tensor \[10\]"),
    ({"scores": torch.tensor([float("nan")] * 10)}, "not finite"),
    ({"scores": torch.tensor([float("inf")] * 10)}, "not finite"),
    ({"source_positions": torch.tensor([], dtype=torch.long), "scores": torch.ones(0)}, "source_positions is empty"),
    ({"target_positions": []}, "target_positions is empty"),
    ({"source_positions": torch.arange(3, 13)}, r"source_positions must lie in 0..11.*\[12\]"),
    ({"source_positions": torch.arange(-1, 9)}, r"source_positions must lie in 0..11.*\[-1\]"),
    ({"target_positions": torch.tensor([12])}, "target_positions must lie in 0..11"),
    ({"target_positions": torch.tensor([0])}, "nothing comes before the first token"),
    ({"target_positions": torch.tensor([10, 11])}, r"positions \[10\] are sources and targets at once"),
    ({"source_positions": torch.tensor([1] * 10)}, "source_positions names a position twice"),
    ({"target_positions": torch.tensor([11, 11])}, "target_positions names a position twice"),
    ({"input_ids": KEYED.input_ids[None]}, "input_ids must be one row of integers"),
    ({"input_ids": KEYED.input_ids.float()}, "input_ids must be one row of integers"),
]
BAD_ARGUMENTS = [
    ({"scores": []}, "scores is empty"),
    ({"scores": {"a": torch.ones(10), "b": torch.ones(3)}}, r"scores 'b' must be a tensor \[10\].*got \[3\]"),
    ({"scores": [[1.0] * 10]}, "got list"),
    ({"k": []}, "non-empty sequence of percentages"),
    ({"k": 10}, "non-empty sequence of percentages"),
    ({"k": [0, 10]}, "above 0 and up to 100"),
    ({"k": [10, 101]}, "above 0 and up to 100"),
    ({"k": [float("nan")]}, "above 0 and up to 100"),
    ({"k": [20, 10]}, "increasing"),
    ({"measure": "logit"}, "measure must be one of 'log_probability', 'probability'"),
    ({"replacement": -1}, "not negative"),
    ({"replacement": "_"}, "give tokenizer="),
    ({"random_orders": 1}, "at least 2"),
    ({"confidence": 95}, "between 0 and 1"),
    ({"internal_batch_size": 0}, "internal_batch_size must be at least 1"),
]


@pytest.mark.parametrize("method", [comprehensiveness, sufficiency])
@pytest.mark.parametrize(("changes", "message"), BAD_TEXTS)
def test_texts(method: Any, changes: dict[str, Any], message: str) -> None:
    model = Witness()
    with pytest.raises(ValueError, match=message):
        method(model, replace(KEYED, **changes))
    assert not model.shapes, "the model ran"


@pytest.mark.parametrize("method", [comprehensiveness, sufficiency])
@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS)
def test_arguments(method: Any, arguments: dict[str, Any], message: str) -> None:
    model = Witness()
    with pytest.raises(ValueError, match=message):
        method(model, KEYED, **arguments)
    assert not model.shapes, "the model ran"


@pytest.mark.parametrize("arguments", [{"seed": "0"}, {"replacement": 1.5}, {"replacement": True}, {"seed": None}])
def test_types(arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match=next(iter(arguments))):
        comprehensiveness(Witness(), KEYED, **arguments)
    with pytest.raises(TypeError, match=r"torch\.nn\.Module, got function"):
        comprehensiveness(lambda ids: ids, KEYED)  # type: ignore[arg-type]


def test_tokens_outside_the_vocabulary() -> None:
    """Before the model runs where it says how large its vocabulary is, else after four tokens."""
    model, runs = causal_model("LlamaForCausalLM"), []
    model.register_forward_pre_hook(lambda module, args: runs.append(module))
    with pytest.raises(ValueError, match=r"replacement=50 lies outside the model's vocabulary of 50"):
        comprehensiveness(model, scored_text(), replacement=50)
    text = scored_text()
    text.input_ids[3] = 50
    with pytest.raises(ValueError, match="belong together"):
        comprehensiveness(model, text)
    assert not runs
    witness = Witness()
    with pytest.raises(ValueError, match="vocabulary of 6"):
        comprehensiveness(witness, KEYED, replacement=6)
    assert witness.shapes == [(2, 4)]


def test_texts_longer_than_the_model_reads() -> None:
    with pytest.raises(ValueError, match=r"has 25 tokens, GPT2LMHeadModel positions for 24"):
        comprehensiveness(causal_model("GPT2LMHeadModel"), scored_text(sources=18))


def test_nothing_left_to_predict_the_first_target_from() -> None:
    text = replace(KEYED, input_ids=KEYED.input_ids[1:], source_positions=torch.arange(10), target_positions=[10])
    with pytest.raises(ValueError, match=r"deleting 10 of the 10 context tokens.*choose a smaller k, .*replacement="):
        comprehensiveness(Witness(), text, k=[50, 100])
    assert comprehensiveness(Witness(), text, k=[50, 100], replacement=0).top == (5, 10)
    assert comprehensiveness(Witness(), text, k=[90]).top == (9,)
    assert sufficiency(Witness(), text, k=[1]).top == (1,)
    between = replace(text, source_positions=torch.tensor([0, 2]), target_positions=[1], scores=torch.ones(2))
    with pytest.raises(ValueError, match=r"deleting 1 of the 2 context tokens.*sources alone, 1; give a replacement="):
        sufficiency(Witness(), between, k=[50])
    assert sufficiency(Witness(), between, k=[50], replacement=0).top == (1,)


def test_of_fewer_tokens_that_are_left_more_are_deleted() -> None:
    sources = torch.tensor([0, 1, 2, 4, 5, 6])
    text = replace(KEYED, source_positions=sources, target_positions=[3, 7], scores=torch.arange(6.0))
    with pytest.raises(ValueError, match=r"deleting 5 of the 6 context tokens.*choose a larger k"):
        sufficiency(Witness(), text, k=[10])
    assert sufficiency(Witness(), text, k=[60]).top == (4,)


def test_models_that_look_ahead() -> None:
    with pytest.raises(UnsupportedModelError, match=r"BertForMaskedLM is not causal"):
        comprehensiveness(case_named("hf-BertForMaskedLM-sdpa").model(), scored_text())


def test_models_without_logits() -> None:
    with pytest.raises(UnsupportedModelError, match=r"LlamaModel returns no logits.*LlamaForCausalLM"):
        comprehensiveness(case_named("hf-LlamaModel-sdpa").model(), scored_text())

    class Pooled(Witness):
        def forward(self, ids: Tensor) -> Tensor:
            return super().forward(ids)[:, -1]

    with pytest.raises(UnsupportedModelError, match=r"Pooled returns logits \[2, 6\] for ids \[2, 4\]"):
        comprehensiveness(Pooled(), KEYED)


def test_models_that_return_nan_or_rule_a_target_out() -> None:
    class Broken(Witness):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.value = value

        def forward(self, ids: Tensor) -> Tensor:
            logits = super().forward(ids)
            unseen = (logits[..., self.told] == 0)[..., None]
            ruled_out = unseen & nn.functional.one_hot(torch.tensor(self.told), self.vocabulary).bool()
            return logits.masked_fill(ruled_out, self.value)

    for value, remedy in ((float("nan"), "is no probability either"), (float("-inf"), 'measure="probability" has')):
        with pytest.raises(ValueError, match=rf"not finite everywhere.*{remedy}"):
            comprehensiveness(Broken(value), KEYED)
    told = torch.e**2 / (torch.e**2 + 5)
    result = comprehensiveness(Broken(float("-inf")), KEYED, measure="probability")
    torch.testing.assert_close(result.curve, torch.full((5,), told).double())
