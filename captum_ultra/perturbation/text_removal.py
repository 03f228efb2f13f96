"""Taking tokens out of a text, and how many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from captum_ultra.perturbation.text_document import Document

__all__ = ["check_remainder", "erase", "replacement_id", "top_counts"]


def top_counts(k: Sequence[float], sources: int) -> list[int]:
    """How many tokens are the top k per cent of so many: rounded up, so that there is at least one.

    Args:
        k: percentages, increasing, each above 0 and at most 100.
        sources: number of tokens.

    Raises:
        ValueError: for other percentages.

    Example:
        >>> top_counts([1, 5, 10, 20, 50], sources=30)
        [1, 2, 3, 6, 15]
    """
    if not isinstance(k, Sequence) or isinstance(k, str) or not k:
        raise ValueError(f"k must be a non-empty sequence of percentages such as (1, 5, 10, 20, 50), got {k!r}")
    if not all(0 < each <= 100 for each in k) or any(b <= a for a, b in pairwise(k)):
        raise ValueError(f"k must be percentages above 0 and up to 100, in increasing order, got {list(k)}")
    # 2.2 % of 1,500 is 33, which floating point makes 33.00000000000001.
    return [math.ceil(round(each * sources / 100, 9)) for each in k]


def erase(document: Document, erased: Tensor, replacement: int | None) -> tuple[Tensor, Tensor]:
    """The text without some of its sources, in several versions of one length.

    Args:
        document: a text of N tokens with T targets.
        erased: [V, E], for each version the E sources (indices into ``document.sources``) to go.
        replacement: the id that takes their place; None closes the gaps.

    Returns:
        ids [V, N - E] (or [V, N] with a replacement) and the targets' positions in them [V, T].

    Example:
        >>> from captum_ultra.perturbation import TokenScores
        >>> from captum_ultra.perturbation.text_document import check_document
        >>> text = TokenScores(torch.tensor([0, 7, 8, 9]), torch.tensor([1, 2]), torch.tensor([3]), torch.rand(2))
        >>> erase(check_document(text), torch.tensor([[0], [1]]), replacement=None)
        (tensor([[0, 8, 9], [0, 7, 9]]), tensor([[2], [2]]))
    """
    versions, tokens = len(erased), len(document.ids)
    gone = torch.zeros(versions, tokens, dtype=torch.bool).scatter_(1, document.sources[erased], True)
    ids = document.ids.expand(versions, tokens)
    if replacement is not None:
        return ids.masked_fill(gone, replacement), document.targets.expand(versions, -1)
    return ids[~gone].view(versions, -1), document.targets - gone.cumsum(1)[:, document.targets]


def check_remainder(document: Document, most: int, remedy: str) -> None:
    """Refuse to delete so many sources that the first target may come to stand first.

    Args:
        document: the text.
        most: the largest number of sources deleted at once.
        remedy: the choice of k by which fewer are.

    Raises:
        ValueError: if nothing might be left to predict the first target from.
    """
    first = int(document.targets.min())
    before = int((document.sources < first).sum())
    if before == first and most >= before:
        choose = f"choose {remedy}, " if before > 1 else ""
        raise ValueError(
            f"deleting {most} of the {len(document.sources)} context tokens may leave nothing before the first target, "
            f"and then nothing predicts it: before it stand sources alone, {first}; {choose}give a replacement=..., "
            "or begin the text with a token that is no source (BOS)"
        )


def replacement_id(replacement: int | str | None, tokenizer: Any) -> int | None:
    """The id of a token given by id or by name.

    Args:
        replacement: an id, a token of the tokenizer's vocabulary, or None.
        tokenizer: with ``convert_tokens_to_ids``; needed for a name.

    Raises:
        TypeError: if it is neither an id nor a name.
        ValueError: for a name without a tokenizer, one that is no single token, or a negative id.
    """
    if replacement is None or (isinstance(replacement, int) and not isinstance(replacement, bool)):
        if replacement is not None and replacement < 0:
            raise ValueError(f"replacement={replacement}: token ids are not negative")
        return replacement
    if not isinstance(replacement, str):
        raise TypeError(f"replacement must be a token id, a token's name or None, got {type(replacement).__name__}")
    if tokenizer is None:
        raise ValueError(f"replacement={replacement!r} is a name; give tokenizer=... to look it up, or give its id")
    found = tokenizer.convert_tokens_to_ids(replacement)
    unknown = found is None or (found == tokenizer.unk_token_id and replacement != tokenizer.unk_token)
    if unknown:
        raise ValueError(
            f"replacement={replacement!r} is no single token of {type(tokenizer).__name__}; tokens are written as in "
            "tokenizer.get_vocab() (with the marks for spaces that it uses)"
        )
    return int(found)
