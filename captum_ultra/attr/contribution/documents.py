"""Documents for ``TokenContribution``: which tokens of a text are sources and which are targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

import torch
from torch import Tensor, nn

from captum_ultra.adapters.text import longest_text, vocabulary_size
from captum_ultra.texts.tokens import Span, TokenizedText, tokenize, tokens_in_span, tokens_of_parts

__all__ = ["Document", "check_text", "joined_document", "padded", "span_document"]


@dataclass(frozen=True)
class Document:
    """One text, with the tokens that are asked about and the latents that are explained.

    Attributes:
        tokens: the text and its tokens.
        sources: indices of the S source tokens.
        targets: indices of the T target tokens.
        latents: indices of the T latents explained.
        has_sink: whether the first token, no source, is reported by itself.
        separator: where the separator stands in the text; None if there are no parts.
    """

    tokens: TokenizedText
    sources: list[int]
    targets: list[int]
    latents: list[int]
    has_sink: bool
    separator: Span | None = None


def joined_document(tokenizer: Any, context: Any, separator: str, summary: Any, position: str, sink: str) -> Document:
    """Context, separator and summary as one text.

    Raises:
        TypeError: if a text is no string.
        ValueError: for blank texts, and where no token belongs to the context or to the summary.
    """
    check_text(context, "context")
    check_text(summary, "summary")
    tokens = tokenize(tokenizer, context + separator + summary)
    sources, _, targets = tokens_of_parts(tokens, [len(context), len(separator), len(summary)])
    for name, found in (("context", sources), ("summary", targets)):
        if not found:
            raise ValueError(
                f"no token belongs to the {name}: the tokenizer drops its characters or joins them with those of its "
                "neighbour; put a blank or a separator between them"
            )
    sources, has_sink = _without_sink(sources, tokens, sink)
    stands = (len(context), len(context) + len(separator))
    return Document(tokens, sources, targets, _latents(targets, position), has_sink, stands)


def span_document(tokenizer: Any, text: Any, targets: Any, sources: Any, position: str, sink: str) -> Document:
    """A text with targets and sources by character span or token index.

    Raises:
        TypeError: for a text that is no string, and for places of another kind.
        ValueError: for a blank text, and for places that do not exist or hold no token.
    """
    check_text(text, "text")
    tokens = tokenize(tokenizer, text)
    wanted = _indices(targets, tokens, "targets")
    ordinary = [index for index, special in enumerate(tokens.special) if not special]
    given = ordinary if sources is None else _indices(sources, tokens, "sources")
    given, has_sink = _without_sink(given, tokens, sink)
    return Document(tokens, given, wanted, _latents(wanted, position), has_sink)


def padded(documents: Sequence[Document], tokenizer: Any, model: nn.Module) -> tuple[Tensor, Tensor | None, Tensor]:
    """Documents as one batch, padded on the right, where padding changes no position.

    Returns:
        Ids [B, N], the mask [B, N] (1 for tokens; None if nothing is padded), latents to explain [B, T]; a document
        with fewer targets repeats its last one.

    Raises:
        ValueError: for a text that the model has no positions for, or tokens that it has no embedding for.
    """
    _check_fit(documents, tokenizer, model)
    # Any id does under a mask. The tokenizer's own may be missing, or beyond the rows of the embedding.
    filler = documents[0].tokens.ids[0]
    ids = _stacked([document.tokens.ids for document in documents], filler)
    mask = _stacked([[1] * len(document.tokens) for document in documents], 0)
    most = max(len(document.latents) for document in documents)
    latents = [each.latents + each.latents[-1:] * (most - len(each.latents)) for each in documents]
    return ids, None if mask.all() else mask, torch.tensor(latents)


def _stacked(rows: Sequence[Sequence[int]], filler: int) -> Tensor:
    return torch.nn.utils.rnn.pad_sequence([torch.tensor(row) for row in rows], True, filler)


def _check_fit(documents: Sequence[Document], tokenizer: Any, model: nn.Module) -> None:
    longest, rows = longest_text(model), vocabulary_size(model)
    for number, document in enumerate(documents):
        which = f"document {number}: " if len(documents) > 1 else ""
        count = len(document.tokens)
        if longest is not None and count > longest:
            raise ValueError(
                f"{which}the text is {count} tokens long, and {type(model).__name__} has positions for {longest}; "
                "shorten it, or explain its parts one by one"
            )
        for token, name in zip(document.tokens.ids, document.tokens.names, strict=True):
            if rows is not None and token >= rows:
                raise ValueError(
                    f"{which}tokenizer and model do not match: the token {name!r} has the id {token}, and the input "
                    f"embedding of {type(model).__name__} has {rows} rows (the tokenizer knows {len(tokenizer)} "
                    "tokens); load both under the same name, or call model.resize_token_embeddings(len(tokenizer)) "
                    "if you added the token"
                )


def check_text(text: Any, name: str) -> None:
    """Raise unless a text is a string with something visible in it.

    Raises:
        TypeError: if it is no string.
        ValueError: if it is empty or blank.

    Example:
        >>> check_text(" ", "summary")
        Traceback (most recent call last):
        ...
        ValueError: summary is blank: there is nothing to explain
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a string (or a list of strings, one a document), got {type(text).__name__}")
    if not text.strip():
        raise ValueError(f"{name} is {'blank' if text else 'empty'}: there is nothing to explain")


def _latents(targets: Sequence[int], position: str) -> list[int]:
    if position == "token":
        return list(targets)
    if min(targets) == 0:
        raise ValueError(
            'position="prediction": no latent predicts the first token of the text; leave it out, or take '
            'position="token"'
        )
    return [index - 1 for index in targets]


def _without_sink(sources: list[int], tokens: TokenizedText, sink: str) -> tuple[list[int], bool]:
    """The sources without the first token if it is to be reported by itself, and whether there is such a one."""
    if not sources:
        raise ValueError("sources: the tokenizer makes no token of the text that could be one")
    if sink == "keep":
        return sources, tokens.special[0] and sources[0] != 0
    others = [index for index in sources if index != 0]
    if not others:
        raise ValueError('sink="separate" leaves no source: the first token is the only one')
    return others, True


def _indices(places: Any, tokens: TokenizedText, name: str) -> list[int]:
    """Token indices in ascending order, each once."""
    found: set[int] = set()
    for place in places if isinstance(places, list) else [places]:
        if _is_index(place):
            if not -len(tokens) <= place < len(tokens):
                raise ValueError(f"{name}: token {place} does not exist; the text has {len(tokens)} tokens")
            found.add(place % len(tokens))
        elif isinstance(place, tuple) and len(place) == 2 and all(_is_index(each) for each in place):
            found.update(_in_span((place[0], place[1]), tokens, name))
        else:
            raise TypeError(
                f"{name}: {place!r} is neither a token's index nor a tuple (start, end) of characters; give one of "
                "them, or a list of several"
            )
    if not found:
        raise ValueError(f"{name}: at least one token or span is needed")
    return sorted(found)


def _in_span(span: Span, tokens: TokenizedText, name: str) -> list[int]:
    if not 0 <= span[0] < span[1] <= len(tokens.text):
        raise ValueError(
            f"{name}: the span {span} does not exist; spans are (start, end) with 0 <= start < end <= "
            f"{len(tokens.text)}, the length of the text"
        )
    held = tokens_in_span(tokens, span)
    if not held:
        raise ValueError(f"{name}: the span {span} ({tokens.text[slice(*span)]!r}) holds no token")
    return held


def _is_index(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
