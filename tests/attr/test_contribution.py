"""The results of ``TokenContribution``: words and sentences, files, and Captum's own result."""

from __future__ import annotations

import json
import math
import pickle
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_ultra import Contribution, SpanContribution, TokenContribution
from captum_ultra.texts.aggregate import aggregate, sentence_spans, word_spans
from captum_ultra.texts.tokens import tokenize
from tests.attr.text_models import CONTEXT, SUMMARY, TOKENIZERS, byte_level, gpt2, llama, word_level

CHARACTERS = st.sampled_from([*"abc.,!?' \n\"-", "don't", "Lily ", "Hi! ", "é", "☃", "中。", "…", "\r\n", "\u2028"])
TEXTS = st.lists(CHARACTERS, min_size=1, max_size=20).map("".join).filter(str.strip)
SPANS = {"words": word_spans, "sentences": sentence_spans}


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    return {name: make() for name, make in TOKENIZERS.items()}


def contribution(**options: Any) -> Contribution:
    found = TokenContribution(llama(), word_level()).attribute(CONTEXT, SUMMARY, **options)
    assert isinstance(found, Contribution)
    return found


def assert_equal(found: Any, expected: Any) -> None:
    """All fields alike, types included."""
    assert type(found) is type(expected)
    for field in fields(expected):
        one, other = getattr(found, field.name), getattr(expected, field.name)
        if isinstance(other, Tensor):
            assert torch.equal(one, other) and one.dtype == other.dtype, field.name
        else:
            assert one == other and type(one) is type(other), field.name


@pytest.mark.parametrize("kind", SPANS)
@settings(max_examples=150, deadline=None)
@given(text=TEXTS)
def test_spans_hold_every_visible_character_once(kind: str, text: str) -> None:
    spans = SPANS[kind](text)
    held = [place for span in spans for place in range(*span)]
    assert held == sorted(set(held))
    assert {place for place in range(len(text)) if not text[place].isspace()} <= set(held)
    for start, end in spans:
        assert text[start:end] == text[start:end].strip() != ""


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two!  Three?", ["One.", "Two!", "Three?"]),
        ("It cost 3.14 in all", ["It cost 3.14 in all"]),
        ('He said "No!" (twice.) Then', ['He said "No!"', "(twice.)", "Then"]),
        ("a heading\n\nA text ...  \n- a point", ["a heading", "A text ...", "- a point"]),
        ("你好。再见！", ["你好。", "再见！"]),
        ("Wait…! What?!", ["Wait…!", "What?!"]),
        (". . .", [". .", "."]),
    ],
)
def test_where_sentences_end(text: str, sentences: list[str]) -> None:
    assert [text[start:end] for start, end in sentence_spans(text)] == sentences


@pytest.mark.parametrize("name", TOKENIZERS)
@pytest.mark.parametrize("kind", SPANS)
@settings(max_examples=40, deadline=None)
@given(text=TEXTS, seed=st.integers(0, 99))
def test_sums_are_kept(tokenizers: dict[str, Any], kind: str, name: str, text: str, seed: int) -> None:
    tokens = tokenize(tokenizers[name], text)
    offsets = [offset for offset, special in zip(tokens.offsets, tokens.special, strict=True) if not special]
    scores = torch.rand(len(offsets), generator=torch.Generator().manual_seed(seed)).tolist()
    found = aggregate(text, SPANS[kind](text), offsets, scores, "sum")
    assert math.isclose(sum(piece.score for piece in found), sum(scores), abs_tol=1e-9)
    for piece in found:
        assert piece.text == text[slice(*piece.span)]
    assert [piece.span for piece in found] == sorted({piece.span for piece in found})
    lower, upper = (aggregate(text, SPANS[kind](text), offsets, scores, how) for how in ("mean", "max"))
    for mean, most, total in zip(lower, upper, found, strict=True):
        assert mean.score <= most.score + 1e-12 and most.score <= total.score + 1e-12


def test_words_gather_their_tokens() -> None:
    text, offsets = "The cat's mat.\nYes", [(0, 3), (3, 6), (6, 9), (9, 13), (13, 15), (15, 18)]
    scores = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0]
    words = aggregate(text, word_spans(text), offsets, scores, "sum")
    assert [(word.text, word.score) for word in words] == [("The", 1), ("cat's", 6), ("mat", 8), (".", 16), ("Yes", 32)]
    means = aggregate(text, word_spans(text), offsets, scores, "mean")
    assert means[1].score == 3 and means[1].span == (4, 9)
    sentences = aggregate(text, sentence_spans(text), offsets, scores, "max")
    assert [tuple(sentence) for sentence in sentences] == [("The cat's mat.", 16, (0, 14)), ("Yes", 32, (15, 18))]


def test_words_under_one_token_are_joined() -> None:
    text = "a b.c d"
    words = aggregate(text, word_spans(text), [(0, 1), (1, 5), (6, 7)], [1.0, 2.0, 4.0], "sum")
    assert [(word.text, word.score) for word in words] == [("a", 1), ("b.c", 2), ("d", 4)]


def test_blanks_count_for_what_follows() -> None:
    text = "a \n b "
    words = aggregate(
        text, word_spans(text), [(0, 1), (1, 2), (2, 3), (3, 5), (5, 6)], [1.0, 2.0, 4.0, 8.0, 16.0], "sum"
    )
    assert [(word.text, word.score) for word in words] == [("a", 1), ("b", 30)], "the last goes to what precedes"


def test_words_of_a_context_end_with_it() -> None:
    found = TokenContribution(llama(), word_level()).attribute("the cat", " sat on", separator="")
    assert isinstance(found, Contribution)
    assert [word.text for word in found.words()] == ["the", "cat"]
    assert sum(word.score for word in found.sentences()) == pytest.approx(found.scores.sum().item())


def test_the_highest_scores_come_first() -> None:
    found = contribution()
    best = found.top(3)
    assert [piece.score for piece in best] == sorted(found.scores.tolist(), reverse=True)[:3]
    for token, score, (start, end) in best:
        assert token == CONTEXT[start:end]
        assert score == found.scores[found.context_offsets.index((start, end))].item()
    assert len(found.top(1000)) == 11
    with pytest.raises(ValueError, match=r"k=0"):
        found.top(0)
    with pytest.raises(ValueError, match=r"aggregation='median' is unknown; possible: 'sum', 'mean', 'max'"):
        found.words("median")


@pytest.mark.parametrize("kind", ["summary", "no sink", "spans", "vector"])
def test_files_bring_back_what_was_saved(tmp_path: Path, kind: str) -> None:
    method, tokenizer = TokenContribution(gpt2(vocab_size=300), byte_level()), word_level()
    found: Any = {
        "summary": lambda: contribution(layer=2, reduce="max", position="prediction"),
        "no sink": lambda: method.attribute("the cat ☃", " sat"),
        "spans": lambda: TokenContribution(llama(), tokenizer).attribute_spans(CONTEXT, [(4, 7), 9]),
        "vector": lambda: contribution(score=torch.ones(32)),
    }[kind]()
    path = tmp_path / "new" / "result.safetensors"
    assert found.save(str(path)) == path
    assert [file.name for file in path.parent.iterdir()] == ["result.safetensors"]
    assert_equal(type(found).load(path), found)
    assert_equal(pickle.loads(pickle.dumps(found)), found)


def test_files_that_are_something_else(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    found = contribution()
    with pytest.raises(ValueError, match=r"cannot save to 'result.npz': .*\.safetensors"):
        found.save(tmp_path / "result.npz")
    assert not list(tmp_path.iterdir())
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(ValueError, match=r"text.safetensors is no .safetensors file"):
        Contribution.load(tmp_path / "text.safetensors")
    save_file({"a": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"holds no saved result"):
        Contribution.load(tmp_path / "other.safetensors")
    found.save(tmp_path / "result.safetensors")
    with pytest.raises(ValueError, match=r"holds a result of kind 'summary'.*kind 'spans'.* was expected"):
        SpanContribution.load(tmp_path / "result.safetensors")
    with pytest.raises(FileNotFoundError):
        Contribution.load(tmp_path / "none.safetensors")


def test_json_holds_everything() -> None:
    found = contribution()
    read = json.loads(found.to_json())
    assert read["matrix"] == found.matrix.tolist() and read["source_tokens"] == list(found.context_tokens)
    assert {field.name for field in fields(found)} <= read.keys()
    assert read["sink_token"] == "<s>" and read["kind"] == "summary"


def test_results_do_not_change() -> None:
    with pytest.raises(AttributeError):
        contribution().layer = 2  # type: ignore[misc]


def test_captum_plots_it() -> None:
    import matplotlib
    from captum.attr import LLMAttributionResult

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    found = contribution()
    result = found.to_captum()
    assert isinstance(result, LLMAttributionResult)
    assert torch.equal(result.seq_attr, found.scores)
    assert result.token_attr is not None and torch.equal(result.token_attr, found.matrix)
    for plot in (result.plot_token_attr, result.plot_seq_attr):
        drawn = plot(show=False)
        assert drawn is not None
        figure, axes = drawn
        assert [tick.get_text() for tick in axes.get_xticklabels()] == list(found.context_tokens)
        figure.canvas.draw()
        plt.close(figure)


def test_what_a_result_says_is_the_text_itself() -> None:
    found = contribution(separator=" : ")
    assert found.text == found.context + found.separator + found.summary
    assert re.sub(r"\s", "", "".join(found.context_tokens)) == re.sub(r"\s", "", CONTEXT)
    for token, (start, end) in zip(found.summary_tokens, found.summary_offsets, strict=True):
        assert SUMMARY[start:end] == token
    for (start, end), (first, last) in zip(found.target_offsets, found.summary_offsets, strict=True):
        assert found.text[start:end] == SUMMARY[first:last]
