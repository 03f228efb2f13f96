"""Which tokens are sources and which are targets, for every kind of tokenizer and any text."""

from __future__ import annotations

from itertools import chain
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ultra.attr.contribution.documents import joined_document, span_document
from captum_ultra.texts.tokens import TokenizedText, tokenize, tokens_in_span, tokens_of_parts
from tests.attr.text_models import TOKENIZERS, byte_level, framed, llama_style, word_level, wrap

LETTERS = st.sampled_from([*"the cat sat on Lily.,!?:\n\t\"'-", " ", "é", "☃", "👩‍🚀", "中", "ﬁ", "İ"])
TEXTS = st.lists(LETTERS, min_size=1, max_size=25).map("".join).filter(str.strip)
EXACT = ["bytes", "bytes-trimmed", "llama"]  # tokenizers that keep every character


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Any]:
    return {name: make() for name, make in TOKENIZERS.items()}


def covered(text: str, spans: list[tuple[int, int]]) -> str:
    """The characters under the spans, each once."""
    return "".join(text[place] for place in sorted({place for span in spans for place in range(*span)}))


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(context=TEXTS, separator=st.sampled_from(["\nTL;DR:", " ", "", "\n\n"]), summary=TEXTS)
def test_every_ordinary_token_is_in_one_part(
    tokenizers: dict[str, Any], name: str, context: str, separator: str, summary: str
) -> None:
    tokens = tokenize(tokenizers[name], context + separator + summary)
    parts = tokens_of_parts(tokens, [len(context), len(separator), len(summary)])
    ordinary = [index for index, special in enumerate(tokens.special) if not special]
    assert list(chain(*parts)) == ordinary, "each once, and parts follow each other"


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=60, deadline=None)
@given(text=TEXTS)
def test_the_slices_of_all_tokens_are_the_text(tokenizers: dict[str, Any], name: str, text: str) -> None:
    tokens = tokenize(tokenizers[name], text)
    visible = covered(text, list(tokens.offsets))
    if name == "bytes-trimmed":  # blanks at the edge of a token belong to none
        visible, text = "".join(visible.split()), "".join(text.split())
    assert visible == text


@pytest.mark.parametrize("name", EXACT)
@settings(max_examples=60, deadline=None)
@given(context=TEXTS, summary=TEXTS)
def test_a_separator_of_line_breaks_keeps_the_parts_whole(
    tokenizers: dict[str, Any], name: str, context: str, summary: str
) -> None:
    """All visible characters of a part are in its slices where no token reaches over a boundary."""
    found: Any = contribution(joined_document(tokenizers[name], context, "\n§\n", summary, "token", "keep"))
    for text, spans in ((found.context, found.context_offsets), (found.summary, found.summary_offsets)):
        assert "".join(covered(text, spans).split()) == "".join(text.split())


def contribution(document: Any) -> Any:
    """A result with the document's tokens and no relevance."""
    import torch

    from captum_ultra.attr.contribution.assemble import Options, assemble

    rows = torch.zeros(len(document.targets), len(document.tokens))
    return assemble(document, rows, 1, "none", Options("sum", True, "mean", "token", "keep", "max"))


def test_a_token_over_a_boundary_goes_where_most_of_it_is() -> None:
    """A blank does not count: " sat" begins in the separator and is a token of the summary."""
    document = joined_document(byte_level(), "the cat", " on ", "the cat", "token", "keep")
    found = contribution(document)
    assert document.tokens.names[-2:] == ("Ġthe", "Ġcat")
    assert found.summary_tokens == ("the", " cat") and found.summary_offsets == ((0, 3), (3, 7))
    assert found.target_offsets == ((10, 14), (14, 18)), "in the joined text the blank belongs to it"


def test_a_word_cut_in_two_by_a_boundary() -> None:
    tokenizer = word_level()
    assert contribution(joined_document(tokenizer, "the c", "", "at sat", "token", "keep")).context_tokens == ("the",)
    tie = contribution(joined_document(tokenizer, "the do", "", "gs ran", "token", "keep"))
    assert tie.context_tokens == ("the", "do") and tie.summary_tokens == ("ran",), "the earlier part at a tie"


def test_bos_and_eos_are_in_no_part() -> None:
    document = joined_document(word_level("<s> $A </s>"), "the cat", " : ", "sat", "token", "keep")
    assert (document.sources, document.targets) == ([1, 2], [4])
    assert document.tokens.special == (True, False, False, False, False, True)


def test_a_special_token_written_in_the_text_is_text() -> None:
    document = joined_document(word_level(), "the </s> cat", " : ", "sat", "token", "keep")
    assert contribution(document).context_tokens == ("the", "</s>", "cat")


def test_bytes_of_one_character_share_it() -> None:
    for tokenizer in (byte_level(), llama_style()):
        found = contribution(joined_document(tokenizer, "a ☃", "\n", "the ☃", "token", "keep"))
        assert found.context_tokens[-3:] == found.summary_tokens[-3:] == ("☃", "☃", "☃")
        assert found.context_offsets[-3:] == ((2, 3),) * 3


def test_an_empty_token_stands_where_the_blank_was_trimmed() -> None:
    tokenizer = byte_level(trim=True)
    tokens = tokenize(tokenizer, "the ☃")
    assert tokens.offsets[:2] == ((0, 3), (4, 4)), "Ġ covers nothing"
    assert tokens_of_parts(tokens, [3, 2])[1] == [1, 2, 3, 4]
    assert tokens_in_span(tokens, (3, 5)) == [1, 2, 3, 4]
    last = TokenizedText("ab", (1, 2), ((0, 2), (2, 2)), (False, False), ("ab", ""))
    assert tokens_of_parts(last, [1, 1]) == [[0], [1]], "at the very end"


def test_the_blank_that_llama_puts_before_a_text_is_no_character() -> None:
    found = contribution(joined_document(llama_style(), "the cat", "\n", " sat", "token", "keep"))
    assert found.context_tokens == ("the", " cat") and found.summary_tokens == (" sat",)


def test_spans_hold_the_tokens_that_show_in_them() -> None:
    tokens = tokenize(byte_level(), "the cat sat on")
    assert [tokens.names[index] for index in tokens_in_span(tokens, (4, 7))] == ["Ġcat"]
    assert tokens_in_span(tokens, (0, 4)) == [0], "the blank at its end is no part of the next word"
    assert tokens_in_span(tokens, (5, 9)) == [1, 2], "whole tokens, where the span cuts some"


def test_targets_and_sources_by_index_span_and_list() -> None:
    tokenizer = word_level("<s> $A </s>")
    document = span_document(tokenizer, "the cat sat", [-2, (0, 3), 1], None, "token", "keep")
    assert (document.targets, document.sources) == ([1, 3], [1, 2, 3]), "each once, in the order of the text"
    prediction = span_document(tokenizer, "the cat sat", (4, 11), (0, 3), "prediction", "keep")
    assert (prediction.targets, prediction.latents, prediction.sources) == ([2, 3], [1, 2], [1])


def test_truncation_and_padding_of_the_tokenizer_do_not_matter() -> None:
    tokenizer = word_level(pad_token="<pad>")
    plain = tokenize(tokenizer, "the cat sat on")
    tokenizer.backend_tokenizer.enable_truncation(2)
    tokenizer.backend_tokenizer.enable_padding(length=30)
    tokenizer.model_max_length = 2
    assert tokenize(tokenizer, "the cat sat on") == plain


def test_words_of_a_normalizer_that_changes_lengths() -> None:
    """Offsets are those of the text as given, whatever the tokenizer made of it."""
    from tokenizers import normalizers

    tokenizer = word_level().backend_tokenizer
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKD(), normalizers.StripAccents()])
    tokens = tokenize(wrap(framed(tokenizer, "<s> $A"), unk_token="<unk>"), "the ﬁne cát sat")
    assert [tokens.text[slice(*offset)] for offset in tokens.offsets[1:]] == ["the", "ﬁne", "cát", "sat"]
