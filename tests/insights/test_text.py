"""Texts as pages and figures: what is coloured how, that nothing of the text becomes markup, that it fits."""

from __future__ import annotations

import json
import re
import warnings
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.image import imread

from captum_ultra import TokenContribution
from captum_ultra.attr.attribution import DEFAULT_SCORE
from captum_ultra.figures.text import INVISIBLE, TextView, segments
from captum_ultra.figures.text_figure import Run, wrapped
from tests.attr.text_models import CONTEXT, SUMMARY, byte_level, gpt2, llama, stories, word_level

NASTY = "the <script>alert('cat')</script> & \"sat\" $x_1$ {{ on }} ☃ the mat\n<b>Lily</b>"


def nasty(**options: Any) -> Any:
    method = TokenContribution(gpt2(vocab_size=300, n_positions=300), byte_level())
    return method.attribute(NASTY, " </script><i>cat</i> ☃", separator="\n<u>TL;DR:", **options)


def spans(text: str = CONTEXT, **options: Any) -> Any:
    return TokenContribution(llama(), word_level()).attribute_spans(text, [(4, 7), -1], **options)


class Page(HTMLParser):
    """Reads what a browser would: tags, the texts of the two parts, and the data."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.texts: dict[str, str] = {}
        self.addresses: list[str] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.tags.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "br"):
            self._open.append(given.get("id") or tag)

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        for name in set(self._open):
            self.texts[name] = self.texts.get(name, "") + data


def test_the_page_shows_the_text_and_nothing_of_it_is_markup() -> None:
    found = nasty()
    page = Page(found.to_html())
    assert page.texts["sources"] == NASTY
    assert page.texts["targets"] == " </script><i>cat</i> ☃"
    assert page.tags.count("script") == 2 and not {"b", "i", "u"} & set(page.tags)


def test_the_page_needs_nothing_from_elsewhere() -> None:
    html = nasty().to_html()
    assert not Page(html).addresses
    assert not re.search(r"https?:|@import|url\(|fetch\(", html)


def test_the_page_carries_the_numbers() -> None:
    found = spans()
    data = json.loads(Page(found.to_html()).texts["data"])
    view = TextView(found)
    ours = [number for number, piece in enumerate(view.sources) if piece.tokens]
    np.testing.assert_allclose(np.array(data["scores"])[ours], found.scores, rtol=1e-3)
    np.testing.assert_allclose(np.array(data["rows"])[:, ours], found.matrix, rtol=1e-3)
    np.testing.assert_allclose(data["sinks"], found.sink, rtol=1e-6)
    assert data["highs"][1] <= found.matrix[1].max() * 1.0001


def test_rows_and_targets_of_the_page_go_together() -> None:
    """Bytes of one character are one target, with the mean of their rows; pieces show the sum of their tokens."""
    found = nasty()
    view = TextView(found)
    data, page = json.loads(Page(found.to_html()).texts["data"]), found.to_html()
    assert len(data["rows"]) == page.count('class="target"') == len(view.asked) == len(found.summary_tokens) - 2
    last, snow = next(piece for piece in view.sources if "☃" in piece.text), view.asked[-1]
    assert len(last.tokens) == len(snow.tokens) == 3
    column = view.sources.index(last)
    expected = found.matrix[list(snow.tokens)].mean(0)[list(last.tokens)].sum().item()
    assert data["rows"][-1][column] == pytest.approx(expected, rel=1e-3)
    assert view.scores.sum() == pytest.approx(found.scores.sum().item(), rel=1e-5)


def test_the_page_says_what_it_is(tmp_path: Path) -> None:
    method = TokenContribution(llama(), word_level(), method="ultra")
    found = method.attribute(CONTEXT, SUMMARY, layer=2, position="prediction")
    path = found.save_html(tmp_path / "new" / "page.html")  # type: ignore[union-attr]
    page = Page(path.read_text(encoding="utf-8"))
    assert (
        f"LlamaForCausalLM, layer 2, ULTra, {DEFAULT_SCORE} score, mean over targets, latents before the targets"
        in page.texts["header"]
    )
    assert "The first token, <s>, received" in page.texts["sink"]
    assert "TL;DR:" in page.texts["body"]
    without = TokenContribution(gpt2(), word_level("$A")).attribute(CONTEXT, SUMMARY, separator="")
    assert 'id="sink"' not in without.to_html() and "separator</h2>" not in without.to_html()  # type: ignore[union-attr]


@settings(max_examples=100, deadline=None)
@given(
    text=st.text(max_size=12),
    cuts=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 4)), max_size=6).map(sorted),
)
def test_segments_are_the_text(text: str, cuts: list[tuple[int, int]]) -> None:
    offsets = [(min(start, len(text)), min(start + length, len(text))) for start, length in cuts]
    found = segments(text, offsets)
    shown = "".join(piece.text for piece in found)
    assert shown.replace(INVISIBLE, "") == text.replace(INVISIBLE, "")
    numbers = [number for piece in found for number in piece.tokens]
    assert numbers == list(range(len(offsets)))


def test_the_figure_fits_its_text() -> None:
    figure = nasty().figure()
    figure.draw_without_rendering()
    frame = figure.bbox
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    drawn = "".join(text.get_text() for text in figure.axes[0].texts)
    assert "<script>alert('cat')</script>" in drawn and "$x_1$" in drawn


def test_strong_tokens_are_dark_and_others_white() -> None:
    found = spans()
    figure = found.figure()
    patches = {round(patch.get_x(), 6): patch for patch in figure.axes[0].patches}
    assert len(patches) == 11
    shades = [sum(patch.get_facecolor()[:3]) for patch in figure.axes[0].patches]
    order = np.argsort(found.scores.numpy())
    assert shades[order[-1]] < shades[order[0]]
    assert figure.axes[0].patches[-1].get_facecolor()[:3] == (1, 1, 1) or found.scores[-1] > 0


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text(alphabet="ab \n\t", max_size=9), max_size=8), width=st.integers(3, 20))
def test_rows_are_not_overfull(texts: list[str], width: int) -> None:
    placed = list(wrapped([Run(text) for text in texts], width, len))
    assert "".join("".join(piece.run.text for piece in placed).split()) == "".join("".join(texts).split())
    for piece in placed:
        assert piece.x + len(piece.run.text.rstrip()) <= width
    places = [(piece.row, piece.x) for piece in placed]
    assert places == sorted(places)


def test_words_of_several_tokens_stay_together() -> None:
    placed = list(wrapped([Run("one"), Run(" tw"), Run("o"), Run(" three")], 6, len))
    assert [(piece.row, piece.x, piece.run.text) for piece in placed] == [
        (0, 0, "one"), (1, 0, "tw"), (1, 2, "o"), (2, 0, "three"),
    ]  # fmt: skip


def test_figures_are_written(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        path = spans().save_png(tmp_path / "new" / "text.png")
        spans().save_png(tmp_path / "text.svg")
    assert imread(path).shape[1] > 1000
    assert "Lily" in (tmp_path / "text.svg").read_text()
    with pytest.raises(ValueError, match=r"'.doc' names no format"):
        spans().save_png(tmp_path / "text.doc")


def test_a_few_hundred_tokens() -> None:
    model, tokenizer = stories()
    text = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. " * 7
    found: Any = TokenContribution(model, tokenizer).attribute(text, " Lily played.")
    assert len(found.scores) > 200
    figure = found.figure()
    figure.draw_without_rendering()
    last = figure.axes[0].texts[-2].get_window_extent()
    assert last.y0 > 0 and figure.get_figheight() < 8


def test_what_is_negative_is_blue() -> None:
    found: Any = TokenContribution(llama(), word_level(), method="residual").attribute(CONTEXT, SUMMARY, layer=2)
    against, page = int(found.scores.argmin()), Page(found.to_html())
    assert found.scores[against] < 0 and "residual LRP" in page.texts["header"] and "%" not in page.texts["sink"]
    assert json.loads(page.texts["data"])["signed"] and 'class="bar signed"' in found.to_html()
    red, _, blue, _ = found.figure().axes[0].patches[against].get_facecolor()
    assert blue > red
    assert [tick.get_text()[0] for tick in found.figure().axes[1].get_xticklabels()][:2] == ["-", "0"]


def test_nothing_relevant_is_a_picture_too() -> None:
    with pytest.warns(UserWarning, match="all scores are zero"):
        found = spans(layer=0, sources=[(0, 3)])
    found.figure().draw_without_rendering()
    assert json.loads(Page(found.to_html()).texts["data"])["high"] == 1.0
