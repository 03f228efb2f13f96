"""Scores of tokens, put together to scores of words and sentences."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from statistics import fmean
from typing import NamedTuple

from captum_ultra.texts.tokens import Span, visible_places

__all__ = ["ScoredText", "aggregate", "grouped", "sentence_spans", "word_spans"]

_WORD = re.compile(r"\w+(?:['’-]\w+)*|[^\w\s]+")
_SENTENCE = re.compile(
    r"""\S [^\n]*?
        (?: [.!?…]+ ["'”’»)\]]* (?=\s)   # a full stop, closed quotes and brackets, then a blank
          | [。！？]+ [」』）”’]*          # scripts that put no blank between sentences
          | (?=\n) | \Z )""",
    re.VERBOSE,
)
_AGGREGATIONS: dict[str, Callable[[Sequence[float]], float]] = {"sum": sum, "mean": fmean, "max": max}


class ScoredText(NamedTuple):
    """A piece of a text with its relevance.

    Attributes:
        text: the piece.
        score: its relevance.
        span: its characters (start, end) in the text.
    """

    text: str
    score: float
    span: Span


def word_spans(text: str) -> list[Span]:
    """Words (letters and digits, with apostrophes and hyphens inside) and runs of punctuation.

    Example:
        >>> text = "The cat's well-fed, no?"
        >>> [text[start:end] for start, end in word_spans(text)]
        ['The', "cat's", 'well-fed', ',', 'no', '?']
    """
    return [match.span() for match in _WORD.finditer(text)]


def sentence_spans(text: str) -> list[Span]:
    """Sentences, without the blanks around them.

    A sentence ends at a line break, after ``.``, ``!``, ``?`` or ``…`` (and closing quotes or brackets) before
    a blank, and after a full stop of Chinese or Japanese. Abbreviations are not known: "Dr. No" is cut.

    Example:
        >>> text = 'She said "Go!" and left. He stayed.'
        >>> [text[start:end] for start, end in sentence_spans(text)]
        ['She said "Go!"', 'and left.', 'He stayed.']
    """
    found = [match.span() for match in _SENTENCE.finditer(text)]
    return [(start, start + len(text[start:end].rstrip())) for start, end in found]


def aggregate(
    text: str, spans: Sequence[Span], offsets: Sequence[Span], scores: Sequence[float], aggregation: str
) -> list[ScoredText]:
    """Give every token to the span that it lies in, and put the scores of each span together.

    Spans that one token reaches into are joined, so that every token counts once and sums are kept. A token of
    blanks counts for what follows it, at the end of the text for what precedes. Spans without a token are left out.

    Args:
        text: the text.
        spans: of all its visible characters, in order.
        offsets: character spans of the tokens.
        scores: of the tokens.
        aggregation: "sum", "mean" or "max" over the tokens of a span.

    Raises:
        ValueError: for another aggregation.

    Example:
        >>> aggregate("a bc", [(0, 1), (2, 4)], [(0, 1), (1, 3), (3, 4)], [1.0, 2.0, 4.0], "sum")
        [ScoredText(text='a', score=1.0, span=(0, 1)), ScoredText(text='bc', score=6.0, span=(2, 4))]
    """
    if aggregation not in _AGGREGATIONS:
        raise ValueError(f"aggregation={aggregation!r} is unknown; possible: {', '.join(map(repr, _AGGREGATIONS))}")
    put_together = _AGGREGATIONS[aggregation]
    return [
        ScoredText(text[slice(*span)], put_together([scores[token] for token in tokens]), span)
        for span, tokens in grouped(text, spans, offsets)
    ]


def grouped(text: str, spans: Sequence[Span], offsets: Sequence[Span]) -> list[tuple[Span, list[int]]]:
    """The tokens of each span: (span, numbers of its tokens), as :func:`aggregate` counts them.

    Args:
        text: the text.
        spans: of all its visible characters, in order.
        offsets: character spans of the tokens.

    Example:
        >>> grouped("a bc", [(0, 1), (2, 4)], [(0, 1), (1, 3), (3, 4)])
        [((0, 1), [0]), ((2, 4), [1, 2])]
    """
    reached = [_reached(text, spans, offset) for offset in offsets]
    begins = [1] * len(spans)  # whether a group of joined spans begins here
    for first, last in reached:
        begins[first + 1 : last + 1] = [0] * (last - first)
    group_of = [number - 1 for number in accumulate(begins)]
    groups: list[list[int]] = [[] for _ in range(sum(begins))]
    for token, (first, _) in enumerate(reached):
        groups[group_of[first]].append(token)
    ends = {group: end for group, (_, end) in zip(group_of, spans, strict=True)}
    starts = [start for begin, (start, _) in zip(begins, spans, strict=True) if begin]
    return [
        ((start, ends[group]), tokens)
        for group, (start, tokens) in enumerate(zip(starts, groups, strict=True))
        if tokens
    ]


def _reached(text: str, spans: Sequence[Span], offset: Span) -> Span:
    """The first and the last of the spans that a token reaches into."""
    places = visible_places(text, offset)
    if not places:
        following = bisect_right(spans, offset[0], key=lambda span: span[1])
        return (min(following, len(spans) - 1),) * 2
    return (_containing(spans, places[0]), _containing(spans, places[-1]))


def _containing(spans: Sequence[Span], place: int) -> int:
    return bisect_right(spans, place, key=lambda span: span[0]) - 1
