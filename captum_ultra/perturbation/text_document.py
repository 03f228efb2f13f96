"""A text with the scores of its context tokens: what a faithfulness test is given, checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

__all__ = ["Document", "ExplainedText", "Scores", "TokenScores", "check_document"]

Scores = Tensor | Sequence[Tensor] | Mapping[str, Tensor]


class ExplainedText(Protocol):
    """Anything that says which tokens of a text were explained by which, and how much.

    Attributes:
        input_ids: [N], the whole text as the model reads it.
        source_positions: [S], where the scored (context) tokens stand in ``input_ids``.
        target_positions: [T], where the explained (summary) tokens stand.
        scores: [S], one for each source, the higher the more relevant.
    """

    @property
    def input_ids(self) -> Any: ...
    @property
    def source_positions(self) -> Any: ...
    @property
    def target_positions(self) -> Any: ...
    @property
    def scores(self) -> Any: ...


@dataclass(frozen=True)
class TokenScores:
    """A text and the scores of any method, as tensors.

    Attributes:
        input_ids: [N], the whole text as the model reads it.
        source_positions: [S], where the scored (context) tokens stand in ``input_ids``.
        target_positions: [T], where the explained (summary) tokens stand.
        scores: [S], or [M, S] of M methods, the higher the more relevant.

    Example:
        >>> text = TokenScores(torch.tensor([0, 7, 8, 9]), torch.tensor([1, 2]), torch.tensor([3]), torch.rand(2))
        >>> text.scores.shape
        torch.Size([2])
    """

    input_ids: Tensor
    source_positions: Tensor
    target_positions: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Document:
    """A checked text on the CPU: ids [N], sources [S], targets [T], scores [M, S] in float64.

    ``names`` is empty, or names the M score vectors; ``single`` says that one bare vector was given.
    """

    ids: Tensor
    sources: Tensor
    targets: Tensor
    scores: Tensor
    names: tuple[str, ...]
    single: bool


def check_document(text: ExplainedText, scores: Scores | None = None) -> Document:
    """The text with its own scores, or with others in their place.

    Args:
        text: see :class:`ExplainedText`.
        scores: None for the text's own; [S], [M, S], a sequence of [S], or a mapping of names to [S].

    Raises:
        ValueError: if shapes do not fit together, positions lie outside the text, repeat or
            overlap, nothing predicts a target, or a score is not finite.

    Example:
        >>> text = TokenScores(torch.tensor([0, 7, 8, 9]), torch.tensor([1, 2]), torch.tensor([0]), torch.rand(2))
        >>> check_document(text)
        Traceback (most recent call last):
        ...
        ValueError: target_positions contain 0: nothing comes before the first token, so no model predicts it...
    """
    ids = _integers(text.input_ids, "input_ids")
    sources = _positions(text.source_positions, "source_positions", len(ids))
    targets = _positions(text.target_positions, "target_positions", len(ids))
    if bool((targets == 0).any()):
        raise ValueError(
            "target_positions contain 0: nothing comes before the first token, so no model predicts it; "
            "leave it out of the targets"
        )
    shared = torch.isin(targets, sources)
    if bool(shared.any()):
        raise ValueError(
            f"positions {targets[shared].tolist()} are sources and targets at once; a token that is removed cannot be "
            "predicted: take them out of source_positions (and their scores)"
        )
    stacked, names, single = _stack(text.scores if scores is None else scores, len(sources))
    return Document(ids, sources, targets, stacked, names, single)


def _integers(values: Any, name: str) -> Tensor:
    tensor = torch.as_tensor(values).detach().cpu()
    if tensor.dim() != 1 or tensor.is_floating_point() or tensor.dtype == torch.bool:
        raise ValueError(f"{name} must be one row of integers, got {tensor.dtype} of shape {list(tensor.shape)}")
    return tensor.long()


def _positions(values: Any, name: str, length: int) -> Tensor:
    positions = torch.as_tensor(values)
    if positions.numel() == 0:
        raise ValueError(f"{name} is empty: no token to remove or to predict is left in this text of {length} tokens")
    positions = _integers(positions, name)
    outside = positions[(positions < 0) | (positions >= length)]
    if len(outside):
        raise ValueError(f"{name} must lie in 0..{length - 1}, the text's {length} tokens; got {outside.tolist()}")
    if len(positions.unique()) < len(positions):
        raise ValueError(f"{name} names a position twice: {positions.tolist()}")
    return positions


def _stack(scores: Any, sources: int) -> tuple[Tensor, tuple[str, ...], bool]:
    names: tuple[str, ...] = ()
    if isinstance(scores, Mapping):
        names, scores = tuple(scores), list(scores.values())
    single = isinstance(scores, Tensor) and scores.dim() == 1
    rows = [scores] if single else list(scores)
    if not rows:
        raise ValueError("scores is empty: give one score vector or several")
    for index, row in enumerate(rows):
        label = f"scores {names[index]!r}" if names else "scores" if single else f"scores[{index}]"
        if not isinstance(row, Tensor) or row.shape != (sources,):
            found = list(row.shape) if isinstance(row, Tensor) else type(row).__name__
            raise ValueError(f"{label} must be a tensor [{sources}], one score for each source position, got {found}")
        if not bool(row.isfinite().all()):
            raise ValueError(f"{label} holds values that are not finite, which cannot be ranked")
    return torch.stack([row.detach().double().cpu() for row in rows]), names, single
