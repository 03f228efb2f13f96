"""From texts to tokens with character offsets, and from characters back to tokens.

The joined text is tokenised once, as the model would read it, so a token may cover the end of one
part and the beginning of the next. It belongs to the part that holds most of its visible characters.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from captum_ultra.errors import warn_caller

__all__ = [
    "Span",
    "TokenizedText",
    "check_tokenizer",
    "tokenize",
    "tokens_in_span",
    "tokens_of_parts",
    "visible_places",
    "warn_of_unknown",
]

Span = tuple[int, int]


@dataclass(frozen=True)
class TokenizedText:
    """A text and its N tokens, in the order in which the model reads them.

    Attributes:
        text: what was tokenised.
        ids: N token ids.
        offsets: N character spans (start, end) in ``text``. Several tokens may share a span (the bytes of
            one character) and a span may be empty (a space that the tokenizer trims away).
        special: N flags, True for tokens that the tokenizer adds: BOS, EOS, CLS, SEP. A special token
            that is written out in the text is a part of the text.
        names: N tokens as the tokenizer calls them.
    """

    text: str
    ids: tuple[int, ...]
    offsets: tuple[Span, ...]
    special: tuple[bool, ...]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


def check_tokenizer(tokenizer: Any) -> None:
    """Raise unless the tokenizer is one of transformers that knows character offsets.

    Raises:
        TypeError: if it is no tokenizer of transformers.
        ValueError: if it is a slow one; says how to get a fast one.
    """
    if not hasattr(tokenizer, "is_fast") or not callable(tokenizer):
        raise TypeError(
            f"tokenizer must be a fast tokenizer of transformers, got {type(tokenizer).__name__}; "
            "AutoTokenizer.from_pretrained(name) loads one"
        )
    if not tokenizer.is_fast:
        raise ValueError(
            f"{type(tokenizer).__name__} is a slow tokenizer, which does not say which characters a token covers; load "
            "the fast one (AutoTokenizer.from_pretrained(name), with the tokenizers library installed), or wrap a "
            "tokenizer.json: PreTrainedTokenizerFast(tokenizer_file=...)"
        )


def tokenize(tokenizer: Any, text: str) -> TokenizedText:
    """Tokenise a text as the tokenizer is set up (its BOS or EOS included), untruncated and unpadded.

    Raises:
        ValueError: if the text is no valid Unicode.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text holds half of a surrogate pair at character {error.start}, which no tokenizer can read; "
            "decode it again, or replace it: text.encode('utf-8', 'replace').decode()"
        ) from error
    found = tokenizer(
        text, return_offsets_mapping=True, return_special_tokens_mask=True, truncation=False, padding=False,
        verbose=False,
    )  # fmt: skip
    return TokenizedText(
        text,
        tuple(int(each) for each in found["input_ids"]),
        tuple((int(start), int(end)) for start, end in found["offset_mapping"]),
        tuple(bool(each) for each in found["special_tokens_mask"]),
        tuple(str(each) for each in tokenizer.convert_ids_to_tokens(found["input_ids"])),
    )


def tokens_of_parts(tokens: TokenizedText, lengths: Sequence[int]) -> list[list[int]]:
    """Which tokens make up each of the consecutive parts of a text.

    A token belongs to the part that holds most of its visible characters (of all its characters if none is
    visible); to the earlier one if two hold as many. An empty token belongs to the part that begins or goes on
    at its place. Special tokens belong to none.

    Args:
        tokens: of the whole text.
        lengths: characters in each part, together the whole text.

    Example:
        >>> text = TokenizedText("a b:c", (7, 8, 9), ((0, 1), (1, 4), (4, 5)), (False,) * 3, ("a", " b:", "c"))
        >>> tokens_of_parts(text, [1, 2, 2])  # " b:" lies in the parts " b" and ":c"; a tie
        [[0], [1], [2]]
    """
    ends = list(accumulate(lengths))
    parts: list[list[int]] = [[] for _ in lengths]
    for index, (offset, special) in enumerate(zip(tokens.offsets, tokens.special, strict=True)):
        if not special:
            held = [0] * len(parts)
            for place in _places(tokens.text, offset):
                held[min(bisect_right(ends, place), len(parts) - 1)] += 1
            parts[held.index(max(held))].append(index)
    return parts


def tokens_in_span(tokens: TokenizedText, span: Span) -> list[int]:
    """Tokens that share a visible character with a span of the text; a token of blanks, any character.

    Special tokens are never among them.

    Example:
        >>> text = TokenizedText("a b c", (7, 8, 9), ((0, 1), (1, 3), (3, 5)), (False,) * 3, ("a", " b", " c"))
        >>> tokens_in_span(text, (0, 2)), tokens_in_span(text, (2, 5))
        ([0], [1, 2])
    """
    return [
        index
        for index, (offset, special) in enumerate(zip(tokens.offsets, tokens.special, strict=True))
        if not special and any(span[0] <= place < span[1] for place in _places(tokens.text, offset))
    ]


def visible_places(text: str, offset: Span) -> list[int]:
    """The characters of a token that are not blank."""
    return [place for place in range(*offset) if not text[place].isspace()]


def _places(text: str, offset: Span) -> Sequence[int]:
    """The characters by which a token is placed: its visible ones, or all, or where it stands if it is empty."""
    return visible_places(text, offset) or range(offset[0], max(offset[1], offset[0] + 1))


def warn_of_unknown(tokens: TokenizedText, tokenizer: Any) -> None:
    """Warn where the tokenizer has no token for a word of the text: the model reads all such words alike."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    pairs = zip(tokens.ids, tokens.offsets, tokens.special, strict=True)
    words = [tokens.text[slice(*offset)] for token, offset, special in pairs if token == unknown and not special]
    if words:
        shown = ", ".join(map(repr, dict.fromkeys(words[:5]))) + (", ..." if len(words) > 5 else "")
        warn_caller(
            f"{len(words)} of {len(tokens)} tokens are unknown to the tokenizer ({shown}): the model reads them all as "
            f"{tokenizer.unk_token!r}, and what it makes of them says nothing about these words; take a model of this "
            "language"
        )
