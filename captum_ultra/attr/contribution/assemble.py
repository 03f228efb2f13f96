"""From relevance rows over tokens to the result that a caller of ``TokenContribution`` gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_ultra.attr.contribution.documents import Document
from captum_ultra.attr.contribution.result import Contribution, SpanContribution
from captum_ultra.attr.presentation import with_self_entry
from captum_ultra.attr.scores import Score, as_score, name_of_score

__all__ = ["Options", "assemble"]

_POSSIBLE = {
    "reduce": ("mean", "sum", "max"),
    "position": ("token", "prediction"),
    "sink": ("keep", "separate"),
    "self_token": ("max", "keep", "zero"),
}


@dataclass(frozen=True)
class Options:
    """What is explained of each target token and how it is reported; checked when made.

    Raises:
        ValueError: for a name that does not exist; lists those that do.
        TypeError: for a score of another kind.
    """

    score: Score
    normalize: bool
    reduce: str
    position: str
    sink: str
    self_token: str

    def __post_init__(self) -> None:
        as_score(self.score)
        for name, possible in _POSSIBLE.items():
            if getattr(self, name) not in possible:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is unknown; possible: {', '.join(map(repr, possible))}"
                )


def assemble(
    document: Document, rows: Tensor, layer: int, model: str, options: Options, method: str = "ultra"
) -> SpanContribution:
    """The result of one document at one layer.

    Args:
        document: with S sources and T targets.
        rows: relevance of all tokens [>= T, >= N] for its targets; what is beyond is padding.
        layer: number of blocks passed.
        model: name of the model.
        options: how rows are reported.
        method: by which the rows were made.
    """
    tokens, rows = document.tokens, rows[: len(document.targets)]
    columns, self_token = rows[:, document.sources], options.self_token
    place_of = {token: place for place, token in enumerate(document.sources)}
    own = torch.tensor([place_of.get(token, -1) for token in document.latents])
    matrix = with_self_entry(columns[None], own[None], self_token)[0]
    sink = None
    if document.has_sink:
        is_first = torch.tensor([0 if token == 0 else -1 for token in document.latents])
        sink = with_self_entry(torch.cat([rows[:, :1], columns], 1)[None], is_first[None], self_token)[0, :, 0]
    values: dict[str, Any] = {
        "text": tokens.text,
        "scores": _reduced(matrix, options.reduce),
        "matrix": matrix,
        "source_offsets": tuple(tokens.offsets[index] for index in document.sources),
        "target_offsets": tuple(tokens.offsets[index] for index in document.targets),
        "input_ids": torch.tensor(tokens.ids),
        "source_positions": torch.tensor(document.sources),
        "target_positions": torch.tensor(document.targets),
        "sink": sink,
        "sink_token": tokens.names[0] if document.has_sink else None,
        "model": model,
        "layer": layer,
        "score": name_of_score(options.score),
        "normalize": options.normalize,
        "reduce": options.reduce,
        "position": options.position,
        "self_token": self_token,
        "method": method,
    }
    if document.separator is None:
        return SpanContribution(**values)
    return Contribution(**values, separator_span=document.separator)


def _reduced(matrix: Tensor, reduce: str) -> Tensor:
    if reduce == "max":
        return matrix.amax(dim=0)
    return matrix.mean(dim=0) if reduce == "mean" else matrix.sum(dim=0)
