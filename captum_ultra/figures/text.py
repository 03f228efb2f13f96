"""Views of what a text contributed: the text itself, coloured, as a page or as a figure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from captum_ultra.figures.panels import ColorScale, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from captum_ultra.attr.contribution.result import SpanContribution
    from captum_ultra.texts.tokens import Span

__all__ = ["Segment", "TextView", "contribution_figure", "contribution_page", "segments"]

INVISIBLE = "␣"  # stands for a token that covers no character


@dataclass(frozen=True)
class Segment:
    """A piece of a text that is shown in one colour.

    Attributes:
        text: its characters.
        tokens: numbers of its tokens: several where they share characters, none between tokens.
    """

    text: str
    tokens: tuple[int, ...]


def segments(text: str, offsets: Sequence[Span]) -> list[Segment]:
    """Cut a text at its tokens; the pieces together are the text, empty tokens aside.

    Args:
        text: the text.
        offsets: character spans of its tokens, in order; they may touch, overlap, or leave gaps.

    Example:
        >>> [(piece.text, piece.tokens) for piece in segments("a ☃!", [(0, 1), (2, 3), (2, 3)])]
        [('a', (0,)), (' ', ()), ('☃', (1, 2)), ('!', ())]
    """
    found: list[tuple[int, int, list[int]]] = []
    reached = 0
    for number, (start, end) in enumerate(offsets):
        if start < reached and found:
            found[-1] = (found[-1][0], max(reached, end), [*found[-1][2], number])
        else:
            if start > reached:
                found.append((reached, start, []))
            found.append((start, end, [number]))
        reached = max(reached, end)
    found.append((reached, len(text), []))
    return [
        Segment(text[start:end] or INVISIBLE, tuple(tokens)) for start, end, tokens in found if tokens or end > start
    ]


class TextView:
    """What both views show: segments of sources and targets, and the relevance between them.

    Attributes:
        sources: segments of the source text.
        targets: segments of the target text; of scattered targets, what lies between is left out.
        scores: of all source segments, the sum over their tokens; 0 for those without.
        rows: [targets with tokens, source segments], the mean over the tokens of a target segment.
        signed: whether some relevance is clearly negative.
    """

    def __init__(self, found: SpanContribution) -> None:
        self.found = found
        self.sources = segments(found.source_text, found.source_spans)
        self.targets = segments(found.target_text, found.target_spans)
        if found.kind == "spans":  # scattered over the source text, which is shown already
            self.targets = list(_without_gaps(self.targets))
        self.asked = [piece for piece in self.targets if piece.tokens]
        of_target = [list(piece.tokens) for piece in self.asked]
        source_of = np.array([number for number, piece in enumerate(self.sources) for _ in piece.tokens])

        def gathered(values: NDArray[Any]) -> NDArray[Any]:
            return np.bincount(source_of, weights=values, minlength=len(self.sources))

        self.scores = gathered(found.scores.double().numpy())
        matrix = found.matrix.double().numpy()
        self.rows = np.stack([gathered(matrix[tokens].mean(axis=0)) for tokens in of_target])
        self.signed = _is_signed(matrix)
        sink = None if found.sink is None else found.sink.double().numpy()
        self.sinks = None if sink is None else [float(sink[tokens].mean()) for tokens in of_target]

    @property
    def heading(self) -> str:
        found = self.found
        latents = "" if found.position == "token" else ", latents before the targets"
        return f"{found.model}, layer {found.layer}, {found.method_title}, {found.reduce} over targets{latents}"

    @property
    def sink_note(self) -> str:
        """A sentence about the first token, empty if it is among the sources."""
        if self.found.sink is None:
            return ""
        received, rest = float(self.found.sink.mean()), float(self.found.matrix.sum(dim=1).mean())
        of_all = "" if self.signed else f" ({received / (received + rest or 1):.1%} of what went to it and the sources)"
        return (
            f"The first token, {self.found.sink_token}, received {received:.3g} on average{of_all}; it is not among "
            "the scores."
        )


def contribution_page(found: SpanContribution) -> str:
    """A self-contained HTML page: relevance as background, one row on hover or click of a target token.

    Orange counts for the targets, blue against them.

    Example:
        >>> from captum_ultra import TokenContribution
        >>> from captum_ultra.models.loader import load_model
        >>> loaded = load_model("facts-llama")
        >>> found = TokenContribution(loaded.model, loaded.tokenizer).attribute("Mara lives in Rome.", " Mara.")
        >>> contribution_page(found).splitlines()[0]
        '<!doctype html>'
    """
    from jinja2 import Environment, StrictUndefined

    from captum_ultra.figures.text_page import PAGE

    view = TextView(found)
    data: dict[str, Any] = {
        "scores": _rounded(view.scores),
        "high": _high(view.scores),
        "rows": [_rounded(row) for row in view.rows],
        "highs": [_high(row) for row in view.rows],
        "sinks": view.sinks,
        "signed": view.signed,
    }

    def colour(value: float) -> str:
        share = min(max(value / data["high"], -1.0), 1.0)
        return f"rgba({'86, 180, 233' if share < 0 else '245, 124, 32'}, {round(0.9 * abs(share), 3)})"

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(PAGE).render(
        view=view, data=data, colour=colour, separator=getattr(found, "separator", ""), names=_names(found),
        # Inside a script element no entity is decoded; what could end the element is escaped as JSON allows.
        script=json.dumps(data).replace("<", "\\u003c"),
    )  # fmt: skip


@styled
def contribution_figure(found: SpanContribution) -> Figure:
    """The text, wrapped, with relevance as background, and a colour bar; the targets below.

    Example:
        >>> from captum_ultra import TokenContribution
        >>> from captum_ultra.models.loader import load_model
        >>> loaded = load_model("facts-llama")
        >>> found = TokenContribution(loaded.model, loaded.tokenizer).attribute("Mara lives in Rome.", " Mara.")
        >>> len(contribution_figure(found).axes[0].patches)  # one background for each token of the context
        5
    """
    from captum_ultra.figures.text_figure import Line, Run, text_figure

    view, (of_sources, of_targets) = TextView(found), _names(found)
    high = _high(view.scores)
    coloured = [
        Run(piece.text, score if piece.tokens else None) for piece, score in zip(view.sources, view.scores, strict=True)
    ]
    lines = [Line(of_sources, coloured)]
    if getattr(found, "separator", "").strip():
        lines.append(Line("separator", [Run(found.separator.strip())]))  # type: ignore[attr-defined]
    lines.append(Line(of_targets, [Run(piece.text, framed=bool(piece.tokens)) for piece in view.targets]))
    return text_figure(lines, high, view.heading, view.sink_note, signed=_is_signed(view.scores))


def _names(found: SpanContribution) -> tuple[str, str]:
    return ("context", "summary") if found.kind == "summary" else ("text", "targets")


def _without_gaps(pieces: list[Segment]) -> Iterator[Segment]:
    """Targets with a mark in place of the text between them."""
    last = max(number for number, piece in enumerate(pieces) if piece.tokens)
    begun = False
    for piece in pieces[: last + 1]:
        if piece.tokens:
            begun = True
            yield piece
        elif begun:
            yield Segment(piece.text if piece.text.isspace() else " … ", ())


def _is_signed(values: NDArray[Any]) -> bool:
    """Whether some value is clearly negative; less is rounding, or too little for a colour."""
    return bool(values.min() < -0.01 * np.abs(values).max())


def _high(values: NDArray[Any]) -> float:
    """The value in the strongest colour: a high percentile, so that one token does not pale all others."""
    return ColorScale.of(values).high


def _rounded(values: NDArray[Any]) -> list[float]:
    return [float(f"{value:.4g}") for value in values]
