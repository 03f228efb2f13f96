"""Faithfulness of what ``TokenContribution`` returns, with real tokenizers, offloaded and trained models."""

from __future__ import annotations

from typing import Any

import accelerate
import pytest
import torch

from captum_ultra.attr.contribution.token_contribution import TokenContribution
from captum_ultra.perturbation import TokenScores, comprehensiveness, sufficiency
from tests.attr.text_models import llama, stories, word_level

CONTEXT, SUMMARY = "the cat sat on the mat", "the cat sat"


def test_a_contribution_is_all_that_is_needed() -> None:
    model, tokenizer = llama(), word_level()
    found: Any = TokenContribution(model, tokenizer).attribute(CONTEXT, SUMMARY)
    result = comprehensiveness(model, found, random_orders=3)
    parts = (found.input_ids, found.source_positions, found.target_positions, found.scores)
    assert torch.equal(result.curve, comprehensiveness(model, TokenScores(*parts), random_orders=3).curve)
    assert result.sources == len(found.context_tokens) and not torch.equal(result.curve, torch.zeros(5).double())


def test_tokens_by_their_names_in_a_real_tokenizer() -> None:
    model, tokenizer = llama(), word_level()
    found: Any = TokenContribution(model, tokenizer).attribute(CONTEXT, SUMMARY)
    name, number = next((name, number) for name, number in tokenizer.get_vocab().items() if name.isalpha())
    result = sufficiency(model, found, replacement=name, tokenizer=tokenizer, random_orders=3)
    assert result.replacement == number
    assert torch.equal(result.curve, sufficiency(model, found, replacement=number, random_orders=3).curve)
    with pytest.raises(ValueError, match="'no such token' is no single token of"):
        sufficiency(model, found, replacement="no such token", tokenizer=tokenizer)


def test_an_offloaded_model() -> None:
    model = llama()
    found: Any = TokenContribution(model, word_level()).attribute(CONTEXT, SUMMARY)
    expected = comprehensiveness(model, found, random_orders=3)
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    offloaded = comprehensiveness(model, found, random_orders=3)
    torch.testing.assert_close(offloaded.curve, expected.curve)
    torch.testing.assert_close(offloaded.control.curves, expected.control.curves)


def test_contributions_of_a_trained_model_beat_random_orders() -> None:
    """A story and how the model itself goes on with it."""
    model, tokenizer = stories()
    story = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    context, summary = story + "One day, she saw a big, red ball.", " She wanted to play with it, but it was too high."
    found: Any = TokenContribution(model, tokenizer).attribute(context, summary, separator="")
    removed, kept = comprehensiveness(model, found), sufficiency(model, found)
    assert removed.mean > removed.control.mean_interval[1] and kept.mean < kept.control.mean_interval[0]
    assert removed.p_value == kept.p_value == 1 / 21
    assert removed.unperturbed == kept.unperturbed < 0
