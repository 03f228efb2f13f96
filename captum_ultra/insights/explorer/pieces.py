"""A text cut into tokens, words and sentences, for a page to show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from captum_ultra.figures.text import segments
from captum_ultra.texts.aggregate import grouped, sentence_spans, word_spans
from captum_ultra.texts.tokens import Span, TokenizedText, tokens_of_parts

__all__ = ["pieces_of"]


def pieces_of(parts: Sequence[tuple[str, str]], tokens: TokenizedText) -> list[dict[str, Any]]:
    """For every part its label and, by level, its pieces (text, place in the whole text, numbers of its tokens).

    The texts of the pieces of a part are the part itself; pieces between tokens have none. No piece reaches over the
    end of its part.

    Args:
        parts: (label, text), which together are the text.
        tokens: of the text.
    """
    found, begin = [], 0
    for (label, text), members in zip(parts, tokens_of_parts(tokens, [len(each) for _, each in parts]), strict=True):
        offsets = [_clipped(tokens.offsets[token], begin, len(text)) for token in members]
        levels = {
            "token": [(piece.text, piece.tokens) for piece in segments(text, offsets)],
            "word": _filled(text, grouped(text, word_spans(text), offsets)),
            "sentence": _filled(text, grouped(text, sentence_spans(text), offsets)),
        }
        found.append({"label": label, "levels": {
            level: _placed(pieces, begin, members) for level, pieces in levels.items()
        }})  # fmt: skip
        begin += len(text)
    return found


def _clipped(offset: Span, begin: int, length: int) -> Span:
    return min(max(offset[0] - begin, 0), length), min(max(offset[1] - begin, 0), length)


def _filled(text: str, groups: list[tuple[Span, list[int]]]) -> list[tuple[str, tuple[int, ...]]]:
    """Groups, and what stands between them."""
    pieces: list[tuple[str, tuple[int, ...]]] = []
    reached = 0
    for (start, end), members in groups:
        pieces += [(text[reached:start], ()), (text[start:end], tuple(members))]
        reached = end
    return [piece for piece in [*pieces, (text[reached:], ())] if piece[0]]


def _placed(pieces: Sequence[tuple[str, Sequence[int]]], begin: int, members: Sequence[int]) -> list[list[Any]]:
    placed, reached = [], begin
    for text, numbers in pieces:
        placed.append([text, reached, [members[number] for number in numbers]])
        reached += len(text)
    return placed
