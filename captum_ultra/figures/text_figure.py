"""A figure that is a text: wrapped at blanks, pieces with a background, a colour bar below."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from captum_ultra.figures.panels import FONT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Line", "Run", "text_figure"]

WIDTH, MARGIN, LABEL = 7.0, 0.12, 0.75  # inches
SIZE, LEADING = 10.0, 1.75  # points, and lines
COLORS = "Oranges"
AGAINST = "Blues"  # below zero
DARKEST = 0.62  # of the colour map: black text stays readable on it
FRAME = "#8fb7d9"
_BREAK = re.compile(r"\r\n|[\n\r\v\f\x85\u2028\u2029]")


@dataclass(frozen=True)
class Run:
    """Characters in one style: with a value for their background, or underlined."""

    text: str
    value: float | None = None
    framed: bool = False


@dataclass(frozen=True)
class Line:
    """A labelled part of the text."""

    label: str
    runs: Sequence[Run]


@dataclass
class _Placed:
    x: float
    row: int
    width: float
    run: Run = field(repr=False)


def text_figure(lines: Sequence[Line], high: float, title: str, note: str, *, signed: bool = False) -> Figure:
    """Draw parts of a text below each other.

    Args:
        lines: the parts.
        high: the value that takes the strongest colour; 0 takes white.
        title: above the text.
        note: below it, may be empty.
        signed: whether the colour bar has negative values too.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows, placed = 0, []
    for line in lines:
        pieces = list(wrapped(line.runs, WIDTH - LABEL - 2 * MARGIN, _measure()))
        placed.append((line.label, rows, pieces))
        rows += 1 + max((piece.row for piece in pieces), default=0)
    step = SIZE * LEADING / 72
    notes = _folded(note)
    height = 2 * MARGIN + (rows + 1 + 0.6 * (len(lines) - 1)) * step + 0.5 + 0.16 * len(notes)
    figure = Figure(figsize=(WIDTH, height))
    FigureCanvasAgg(figure)
    axes: Any = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, WIDTH), ylim=(height, 0))
    axes.axis("off")
    axes.text(MARGIN, MARGIN, title, va="top", fontsize=FONT, color="0.35", parse_math=False)
    for gap, (label, first, pieces) in enumerate(placed):
        top = MARGIN + (first + 1 + gap * 0.6) * step
        axes.text(MARGIN, top + 0.7 * step, label, va="baseline", fontsize=FONT, color="0.35")
        for piece in pieces:
            _draw(axes, piece, LABEL + MARGIN, top, step, high)
    bottom = MARGIN + (rows + 1 + (len(placed) - 1) * 0.6) * step
    _color_bar(figure, bottom + 0.15, height, high, signed)
    axes.text(LABEL + MARGIN, bottom + 0.58, "\n".join(notes), va="top", fontsize=FONT, color="0.35", parse_math=False)
    return figure


def wrapped(runs: Sequence[Run], width: float, measure: Callable[[str], float]) -> Iterator[_Placed]:
    """Place runs in rows of a width; a word of several runs stays together if it fits into a row."""
    x, row = 0.0, 0
    for word in _words(runs):
        whole = _BREAK.split("".join(run.text for run in word))[0]
        if x > 0 and x + measure(whole.rstrip()) > width:
            x, row = 0.0, row + 1
        for run in word:
            for number, part in enumerate(_BREAK.split(run.text.expandtabs(4))):
                if number:
                    x, row = 0.0, row + 1
                # A row begins with no blank, unless that is a token of its own.
                plain = run.value is None and not run.framed
                shown = part.lstrip(" ") if x == 0 and (plain or part.strip()) else part
                for piece in _cut(shown, width, measure):
                    if x > 0 and x + measure(piece.rstrip()) > width:
                        x, row = 0.0, row + 1
                    yield _Placed(x, row, measure(piece), Run(piece, run.value, run.framed))
                    x += measure(piece)


def _cut(text: str, width: float, measure: Callable[[str], float]) -> Iterator[str]:
    """A run that is wider than a row in pieces that fit."""
    piece = ""
    for character in text:
        if piece and measure(piece + character) > width:
            yield piece
            piece = ""
        piece += character
    if piece:
        yield piece


def _words(runs: Sequence[Run]) -> Iterator[list[Run]]:
    """Runs that belong together: a new word begins with a blank, or behind one."""
    word: list[Run] = []
    for run in runs:
        if word and (run.text[:1].isspace() or word[-1].text[-1:].isspace()):
            yield word
            word = []
        word.append(run)
    if word:
        yield word


def _measure() -> Callable[[str], float]:
    """Width in inches of a text in the figure's font, by the advances of its characters."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    font = get_font(findfont(FontProperties()))
    known = font.get_charmap()

    @cache
    def advance(character: str) -> float:
        if ord(character) not in known:
            return SIZE / 72  # what stands for a character that the font lacks is about a square
        font.set_size(SIZE, 72)
        return font.load_char(ord(character)).linearHoriAdvance / 65536 / 72

    return lambda text: sum(map(advance, text))


def _draw(axes: Axes, piece: _Placed, left: float, top: float, step: float, high: float) -> None:
    from matplotlib.patches import Rectangle

    x, y = left + piece.x, top + piece.row * step
    run = piece.run
    if run.value is not None:
        axes.add_patch(Rectangle((x, y + 0.1 * step), piece.width, 0.85 * step, color=_color(run.value, high), lw=0))
    if run.framed:
        blanks = len(run.text) - len(run.text.lstrip())
        begin = x + piece.width * blanks / max(len(run.text), 1)
        axes.plot([begin + 0.01, x + piece.width - 0.01], [y + 0.92 * step] * 2, color=FRAME, lw=1.5)
    axes.text(x, y + 0.7 * step, run.text, va="baseline", fontsize=SIZE, parse_math=False)


def _color(value: float, high: float) -> Any:
    from matplotlib import colormaps

    strength = min(abs(value) / high, 1.0)
    red, green, blue, _ = colormaps[COLORS if value > 0 else AGAINST](DARKEST * strength)
    # The palest colour of the map is no white, so that nothing would look like a little.
    fade = min(1.0, 8 * strength)
    return tuple(1 - fade * (1 - channel) for channel in (red, green, blue))


def _color_bar(figure: Figure, top: float, height: float, high: float, signed: bool) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    low = -high if signed else 0.0
    shown = ListedColormap([_color(low / high + (1 - low / high) * value / 255, 1.0) for value in range(256)])
    place = figure.add_axes(((LABEL + MARGIN) / WIDTH, 1 - (top + 0.11) / height, 2.4 / WIDTH, 0.11 / height))
    bar = figure.colorbar(ScalarMappable(Normalize(low, high), shown), cax=place, orientation="horizontal")
    middle = (low + high) / 2
    bar.set_ticks([low, middle, high], labels=[f"{low:.2g}", f"{middle:.2g}", f"{high:.2g}"])
    bar.ax.tick_params(labelsize=FONT - 1.5, width=0.6, length=2)
    bar.outline.set_linewidth(0.6)
    figure.text((LABEL + MARGIN + 2.55) / WIDTH, 1 - (top + 0.055) / height, "relevance", va="center", fontsize=FONT)


def _folded(note: str) -> list[str]:
    from textwrap import wrap

    return wrap(note, 105)
