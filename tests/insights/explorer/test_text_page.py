"""The explorer of texts in a browser: colours and words against the matrix of the package."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captum_ultra import TokenContribution
from captum_ultra.insights import explore
from captum_ultra.insights.explorer import Explorer, TextMaps
from captum_ultra.models.loader import load_model
from captum_ultra.texts.tokens import TokenizedText
from tests.insights.explorer.browser import Browser, opened

pytest.importorskip("transformers")

CONTEXT, SUMMARY = "Mara lives in Rome. Omar avoids figs.", " Mara is at home somewhere in Italy."


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from opened()


@pytest.fixture(scope="module")
def loaded() -> Any:
    return load_model("facts-llama")


@pytest.fixture(scope="module")
def explorer(loaded: Any) -> Explorer:
    return explore(loaded, (CONTEXT, SUMMARY))


@pytest.fixture
def page(browser: Browser, explorer: Explorer, tmp_path: Path) -> Iterator[Browser]:
    browser.open(explorer.save(tmp_path / "page.html"))
    yield browser
    assert browser.complaints() == [] and browser.requests() == []


def pieces(page: Browser, part: int) -> list[Any]:
    return page.all(".text")[part].find_elements("css selector", ".piece")


def shares(elements: list[Any]) -> np.ndarray:
    """How strong the colours are: the alpha of the backgrounds."""
    alphas = []
    for each in elements:
        numbers = each.value_of_css_property("background-color").split("(")[1].rstrip(")").split(",")
        alphas.append(float(numbers[3]) if len(numbers) == 4 else 1.0)
    return np.array(alphas)


def is_orange(element: Any) -> bool:
    red, _, blue = (
        int(each) for each in element.value_of_css_property("background-color").split("(")[1].split(",")[:3]
    )
    return red > blue


def contribution(loaded: Any, layer: int = -1, score: str = "sum") -> Any:
    method = TokenContribution(loaded.model, loaded.tokenizer, method="ultra")
    return method.attribute(CONTEXT, SUMMARY, layer=layer, score=score, position="token")


def test_the_context_is_coloured_for_a_token_of_the_summary(page: Browser, loaded: Any) -> None:
    found = contribution(loaded)
    context, summary = pieces(page, 0), pieces(page, 2)
    assert [each.text for each in context] == list(found.source_tokens)
    page.ask("(page.state.direction = 'rests', page.draw())")
    for target in (0, 3, 6):
        page.point(summary[target])
        row = found.matrix[target].numpy()
        drawn = shares(context)
        scale = drawn.max() / row.max()  # the strongest piece may be in the summary itself
        assert np.abs(drawn - row * scale).max() < 0.01
        strongest = context[int(row.argmax())]
        assert is_orange(strongest) and f"“{found.target_tokens[target].strip()}”" in page.one(".readout").text


def test_nothing_pointed_at_shows_what_the_summary_rests_on(page: Browser, loaded: Any) -> None:
    scores = contribution(loaded).scores.numpy()
    assert np.abs(shares(pieces(page, 0)) - scores / scores.max()).max() < 0.01
    page.keys(page.one("#layer"), "HOME")
    scores = contribution(loaded, layer=1).scores.numpy()
    assert np.abs(shares(pieces(page, 0)) - scores / scores.max()).max() < 0.01
    page.one("#method-0 option:nth-child(2)").click()
    scores = contribution(loaded, layer=1, score="energy").scores.numpy()
    assert np.abs(shares(pieces(page, 0)) - scores / scores.max()).max() < 0.01


def test_what_a_token_of_the_context_feeds(page: Browser, loaded: Any) -> None:
    matrix = contribution(loaded).matrix.numpy()
    page.ask("(page.state.direction = 'feeds', page.draw())")
    page.point(pieces(page, 0)[3])
    drawn = shares(pieces(page, 2))
    assert np.abs(drawn * matrix[:, 3].max() - matrix[:, 3] * drawn.max()).max() < 0.01 * matrix[:, 3].max()
    assert not is_orange(pieces(page, 2)[int(matrix[:, 3].argmax())])
    assert shares(pieces(page, 0)[:3]).max() == 0  # a causal model: nothing before it rests on it


def test_words_and_sentences_add_up_tokens(page: Browser, explorer: Explorer) -> None:
    maps = explorer.models[0].maps["ULTra, sum score", 4]
    page.one("#level option[value=sentence]").click()
    context, summary = pieces(page, 0), pieces(page, 2)
    assert [each.text for each in context] == ["Mara lives in Rome.", "Omar avoids figs."]
    page.point(summary[0], click=True)
    parts = page.ask("page.told.models[0].parts.map((part) => part.levels.sentence)")
    targets = parts[2][-1][2]
    expected = [maps[targets][:, tokens].sum(1).mean() for _, _, tokens in parts[0] if tokens]
    drawn = shares(context)
    assert np.abs(drawn * max(expected) - np.array(expected) * drawn.max()).max() < 0.01 * max(expected)
    told = page.ask("page.views[0].values(page.views[0].pieceAt(page.place())).rests")
    assert told[: len(expected)] == pytest.approx(expected, rel=1e-3)
    page.one("#level option[value=word]").click()
    assert [each.text for each in pieces(page, 2)][:3] == ["Mara", "is", "at"]


def test_the_sink_is_shown_on_request(page: Browser) -> None:
    assert page.all(".sink") == [] and "<s>" in page.one(".note").text
    page.one("#sink").click()
    page.point(pieces(page, 2)[1])
    assert page.one(".sink").text == "<s>" and shares(page.all(".sink"))[0] > 0


def test_a_first_token_that_is_a_word_is_left_out_too(browser: Browser, tmp_path: Path) -> None:
    tokens = TokenizedText("a b c", (0, 1, 2), ((0, 1), (2, 3), (4, 5)), (False,) * 3, ("a", "b", "c"))
    maps = {("m", 1): np.array([[0, 0, 0], [9, 0, 0], [9, 1, 0]], dtype=np.float32)}
    sample = TextMaps("model", (("text", "a b c"),), tokens, (0, 1, 2), (1,), ("m",), maps)
    browser.open(Explorer.of([sample], "sample").save(tmp_path / "page.html"))
    browser.point(browser.all(".piece")[2], click=True)
    assert shares(browser.all(".piece")).tolist() == [0, 1, 0]
    browser.one("#sink").click()
    assert shares(browser.all(".piece")) == pytest.approx([1, 1 / 9, 0], abs=0.01)


def test_keyboard_and_holding(page: Browser) -> None:
    first = pieces(page, 0)[0]
    page.driver.execute_script("arguments[0].focus()", first)
    page.keys(first, "ARROW_RIGHT")
    page.keys(pieces(page, 0)[1], "ARROW_RIGHT", "ENTER")
    held = page.all(".piece[aria-pressed=true]")
    assert [each.text for each in held] == ["in"]
    page.point(pieces(page, 2)[0])
    assert page.one(".readout").text.startswith("“in”")
    page.keys(page.driver.switch_to.active_element, "ESCAPE")
    assert page.all(".piece[aria-pressed=true]") == []


def test_what_counts_against_is_named(browser: Browser, loaded: Any, tmp_path: Path) -> None:
    page = explore(loaded, CONTEXT, layers=[4], methods=[("conservative", "energy"), "energy"])
    browser.open(page.save(tmp_path / "page.html"))
    row = page.models[0].maps["conservative LRP, energy score", 4][7]
    browser.point(pieces(browser, 0)[6])
    negative = page.models[0].tokens.names[1 + int(row[1:].argmin())].strip("▁Ġ ")
    assert f"against it counts “{negative}”" in browser.one(".readout").text
    browser.one("#method-0 option:nth-child(2)").click()
    assert "against" not in browser.one(".readout").text


def test_text_is_never_markup(browser: Browser, loaded: Any, tmp_path: Path) -> None:
    attack = "</script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'> {{ title }} Mara."
    with pytest.warns(UserWarning, match="unknown to the tokenizer"):
        page = explore(loaded, (attack, " Mara."), layers=[1], title=f"<b>{attack}")
    browser.open(page.save(tmp_path / "page.html"))
    assert browser.ask("window.hacked === undefined") and browser.all("img") == []
    assert browser.all(".text")[0].text == attack and browser.one("h1").text == f"<b>{attack}"
    assert browser.complaints() == [] and browser.requests() == []


def test_two_models_with_one_text(browser: Browser, loaded: Any, tmp_path: Path) -> None:
    torch.manual_seed(0)
    other = load_model("facts-llama", pretrained=False)
    page = explore({"trained": loaded, "untrained": other}, "Mara lives in Rome.", layers=[2])
    browser.open(page.save(tmp_path / "page.html"), width=360, height=740)
    browser.point(pieces(browser, 1)[3])
    assert [each.text for each in browser.all(".piece.here")] == ["Rome", "Rome"]
    assert browser.ask("document.documentElement.scrollWidth") == 360
