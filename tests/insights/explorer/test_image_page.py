"""The explorer of images in a browser: what is drawn is what was computed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster

from captum_ultra.insights.explorer import Explorer, ImageMaps
from captum_ultra.segmentation.record import Segmentation
from captum_ultra.segmentation.rule import SegmentationRule
from tests.insights.explorer.browser import Browser, opened
from tests.insights.explorer.samples import METHODS, image_sample


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from opened()


@pytest.fixture(scope="module")
def sample() -> ImageMaps:
    return image_sample()


@pytest.fixture
def page(browser: Browser, sample: ImageMaps, tmp_path: Path) -> Iterator[Browser]:
    """The page of one model; whatever is done there, nothing is fetched and the console stays empty."""
    browser.open(Explorer.of([sample], "sample").save(tmp_path / "page.html"))
    yield browser
    assert browser.complaints() == [] and browser.requests() == []


def close(given: Any, values: np.ndarray) -> bool:
    """Up to the steps in which maps are stored."""
    return bool(np.abs(np.array(given) - values).max() <= 0.51 * np.abs(values).max() / 255)


def viridis(values: np.ndarray) -> np.ndarray:
    """Colours [..., 3] of values, 0 to the 99th percentile; as matplotlib has them."""
    from matplotlib import colormaps

    return colormaps["viridis"](np.clip(values / np.percentile(np.abs(values), 99), 0, 1))[..., :3] * 255


def test_pointing_shows_the_map_of_the_patch(page: Browser, sample: ImageMaps) -> None:
    stage = page.one(".stage[tabindex]")
    for row, column in ((1, 2), (5, 7), (0, 0)):
        page.point(stage, (column + 0.5) / 8, (row + 0.5) / 6)
        expected = sample.maps["first", 3][8 * row + column]
        assert close(page.ask("[...page.views[0].values()]"), expected)
        drawn = page.pixels(page.one(".stage[tabindex] canvas"))
        assert drawn.shape == (6, 8, 4) and (drawn[..., 3] == 255).all()
        # The page's table has 17 colours of viridis and goes straight between them.
        assert np.abs(drawn[..., :3] - viridis(expected.reshape(6, 8))).max() <= 6
        assert f"Token ({row}, {column}), layer 3" in page.one(".readout").text
        strip = page.all(".strip canvas")
        for layer, canvas in enumerate(strip, start=1):
            of_layer = sample.maps["first", layer][8 * row + column].reshape(6, 8)
            assert np.abs(page.pixels(canvas)[..., :3] - viridis(of_layer)).max() <= 6


def test_a_map_without_relevance_says_so(browser: Browser, sample: ImageMaps, tmp_path: Path) -> None:
    maps = {key: each.copy() for key, each in sample.maps.items()}
    maps["first", 3][8 * 1 + 2] = 0
    browser.open(Explorer.of([replace(sample, maps=maps)], "zero").save(tmp_path / "page.html"))
    stage = browser.one(".stage[tabindex]")
    for (row, column), said in (((1, 2), "Zero: no relevance"), ((1, 3), "Strongest: ")):
        browser.point(stage, (column + 0.5) / 8, (row + 0.5) / 6)
        assert f"Token ({row}, {column}), layer 3. {said}" in browser.one(".readout").text


def test_the_ring_stands_on_the_patch(page: Browser) -> None:
    page.point(page.one(".stage[tabindex]"), 3.5 / 8, 4.5 / 6)
    stage, ring = (page.one(f".stage[tabindex]{each}").rect for each in ("", " .ring"))
    assert ring["x"] - stage["x"] == pytest.approx(stage["width"] * 3 / 8, abs=1)
    assert ring["y"] - stage["y"] == pytest.approx(stage["height"] * 4 / 6, abs=1)


def test_layer_method_and_opacity(page: Browser, sample: ImageMaps) -> None:
    page.keys(page.one("#layer"), "ARROW_LEFT", "ARROW_LEFT")
    token = page.ask("page.views[0].token()")
    assert close(page.ask("[...page.views[0].values()]"), sample.maps["first", 1][token])
    assert page.one("#layer + output").text == "1"
    page.one("#method-0 option:nth-child(2)").click()
    assert close(page.ask("[...page.views[0].values()]"), sample.maps["second", 1][token])
    page.keys(page.one("#opacity"), "HOME")
    assert page.one(".stage[tabindex] canvas").value_of_css_property("opacity") == "0"
    page.all(".strip button")[1].click()
    assert close(page.ask("[...page.views[0].values()]"), sample.maps["second", 2][token])


def test_keyboard_alone(page: Browser) -> None:
    stage = page.one(".stage[tabindex]")
    page.driver.execute_script("arguments[0].focus()", stage)
    page.keys(stage, "HOME", "ARROW_UP", "ARROW_UP", "ARROW_UP", "ARROW_UP", "ARROW_RIGHT", "ARROW_RIGHT")
    assert page.ask("page.views[0].patch()") == [0, 2]
    page.keys(stage, "ENTER", "ARROW_DOWN", "ENTER")
    assert [each.text for each in page.all(".pin strong")] == ["(0, 2)", "(1, 2)"]
    page.keys(stage, "PAGE_DOWN")
    assert "Row 1, column 2, layer 2" in page.driver.execute_async_script(
        "setTimeout(() => arguments[0](document.getElementById('live').textContent), 400)"
    )
    page.keys(page.one(".pin button"), "ENTER")
    assert [each.text for each in page.all(".pin strong")] == ["(1, 2)"]
    unnamed = "[...document.querySelectorAll('input, select, button, [tabindex]')].filter((e) => !(e.ariaLabel || "
    assert page.ask(f"{unnamed}e.textContent || (e.labels && e.labels.length))).length") == 0


def test_pins_stay_while_the_pointer_moves(page: Browser, sample: ImageMaps) -> None:
    stage = page.one(".stage[tabindex]")
    page.point(stage, 1.5 / 8, 1.5 / 6, click=True)
    page.point(stage, 6.5 / 8, 4.5 / 6, click=True)
    page.point(stage, 0.5 / 8, 0.5 / 6)
    page.keys(page.one("#layer"), "ARROW_LEFT")
    for pin, token in zip(page.all(".pin"), (9, 38), strict=True):
        drawn = page.pixels(pin.find_element("css selector", "canvas"))
        assert np.abs(drawn[..., :3] - viridis(sample.maps["first", 2][token].reshape(6, 8))).max() <= 6


def test_cuts_are_those_of_scipy(page: Browser, sample: ImageMaps) -> None:
    labels = "[...page.views[0].segments.found.labels]"
    for layer, method in ((1, 0), (3, 1)):
        page.ask("page.setLayer(arguments[0])", layer - 1)
        page.ask("(page.views[0].method = arguments[0], page.draw(true))", method)
        merges = sample.merges[METHODS[method], layer]
        for k in (1, 2, 5, 17, 48):
            page.ask("page.setCut({k: arguments[0]})", k)
            assert same_partition(page.ask(labels), fcluster(merges, k, "maxclust")), k
        for zeta in (0.0, 0.2, 0.4, float(merges[20, 2]), 2.0):
            page.ask("page.setCut({zeta: arguments[0]})", zeta)
            assert same_partition(page.ask(labels), fcluster(merges, zeta, "distance")), zeta


def same_partition(found: list[int], expected: np.ndarray) -> bool:
    pairs = set(zip(found, expected.tolist(), strict=True))
    return len(pairs) == len(set(found)) == len(set(expected.tolist()))


def test_sliders_cut_and_follow_each_other(page: Browser, sample: ImageMaps) -> None:
    heights = sample.merges["first", 3][:, 2]
    count, distance = page.one("#k-0"), page.one("#zeta-0")
    page.keys(count, "HOME", "ARROW_RIGHT", "ARROW_RIGHT", "ARROW_RIGHT")
    assert page.ask("page.views[0].segments.found.count") == 4
    assert page.one("#zeta-0 + output").text == f"{heights[-4]:.2f}"
    page.keys(distance, "END")
    assert page.one("#k-0 + output").text == "1"
    page.keys(distance, "HOME")
    assert page.one("#k-0 + output").text == "48"


@pytest.mark.parametrize("k", [2, 5, 9])
def test_segments_are_those_of_the_package(page: Browser, sample: ImageMaps, k: int) -> None:
    page.ask("page.setCut({k: arguments[0]})", k)
    found = page.ask("[...page.views[0].segments.pixels]")
    maps = torch.from_numpy(sample.maps["first", 3]).double().unflatten(-1, sample.grid)[None]
    rule = SegmentationRule(size=(60, 80), cluster_on="grid")
    labels = Segmentation.of(maps, n_clusters=k, rule=rule).labels.flatten().numpy()
    pairs = np.array([found, labels]).T
    matched = sum(np.unique(labels[pairs[:, 0] == each], return_counts=True)[1].max() for each in set(found))
    assert matched / len(labels) > 0.99  # maps are stored in 255 steps


def test_signed_maps_have_a_scale_about_zero(browser: Browser, tmp_path: Path) -> None:
    sample = image_sample((4, 4), 1, signed=True)
    browser.open(Explorer.of([sample], "signed").save(tmp_path / "page.html"))
    values = np.array(browser.ask("[...page.views[0].values()]"))
    expected = sample.maps["first", 1][browser.ask("page.views[0].token()")]
    assert np.abs(values - expected).max() <= np.abs(expected).max() / 254
    assert values.min() < 0 and browser.one(".legend span:nth-child(2)").text.removeprefix("≤ ").startswith("-")
    red, _, blue = browser.pixels(browser.one("canvas"))[..., :3].reshape(-1, 3).T
    assert (red > blue)[expected > 0.3].all() and (blue > red)[expected < -0.1].all()
    assert browser.all("#k-0") == []


def test_models_side_by_side_are_pointed_at_together(browser: Browser, tmp_path: Path) -> None:
    one, other = image_sample((6, 8), 4, name="one"), image_sample((3, 4), 2, seed=1, name="other")
    browser.open(Explorer.of([one, other], "two").save(tmp_path / "page.html"))
    stages = browser.all(".stage[tabindex]")
    browser.point(stages[0], 6.5 / 8, 3.5 / 6)
    assert browser.ask("page.views.map((view) => view.patch())") == [[3, 6], [1, 3]]
    browser.point(stages[1], 0.5 / 4, 2.5 / 3)
    assert browser.ask("page.views[1].patch()") == [2, 0]
    assert close(browser.ask("[...page.views[1].values()]"), other.maps["first", 2][8])
    layers = "page.views.map((view) => view.model.layers[view.layer])"
    browser.ask("page.setLayer(0)")
    assert browser.ask(layers) == [1, 1]
    browser.all(".view")[1].find_elements("css selector", ".strip button")[1].click()
    assert browser.ask(layers) == [4, 2]
    assert browser.complaints() == []


def test_methods_side_by_side(browser: Browser, sample: ImageMaps, tmp_path: Path) -> None:
    browser.open(Explorer.of([sample], "two", METHODS).save(tmp_path / "page.html"))
    browser.point(browser.all(".stage[tabindex]")[1], 2.5 / 8, 1.5 / 6)
    for view, method in enumerate(METHODS):
        assert close(browser.ask(f"[...page.views[{view}].values()]"), sample.maps[method, 3][10])


@pytest.mark.parametrize("compared", [None, METHODS])
def test_nothing_overflows_on_a_phone(
    browser: Browser, sample: ImageMaps, compared: tuple[str, ...] | None, tmp_path: Path
) -> None:
    page = Explorer.of([sample], "A title of a page that is rather long for a phone", compared)
    browser.open(page.save(tmp_path / "page.html"), width=360, height=740)
    browser.one("#pin").click()
    assert browser.ask("document.documentElement.scrollWidth") == 360
    beyond = "[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > 360.5).length"
    assert browser.ask(beyond) == 0


def test_dark_and_light(browser: Browser, sample: ImageMaps, tmp_path: Path) -> None:
    path = Explorer.of([sample], "sample").save(tmp_path / "page.html")

    def paper() -> int:
        colour = browser.ask("getComputedStyle(document.body).backgroundColor")
        return sum(int(each) for each in colour.removeprefix("rgb(").removesuffix(")").split(","))

    for dark in (True, False):
        browser.open(path, dark=dark)
        assert (paper() < 150) == dark
        browser.one("#theme").click()
        assert (paper() < 150) != dark


def test_a_notebook_shows_the_page_in_a_frame(browser: Browser, sample: ImageMaps, tmp_path: Path) -> None:
    path = tmp_path / "notebook.html"
    path.write_text(f"<!doctype html><meta charset=utf-8><body>{Explorer.of([sample], 'a “title”')._repr_html_()}")
    browser.driver.get(path.as_uri())
    browser.driver.switch_to.frame(browser.one("iframe"))
    assert browser.ready() == "ready" and browser.one("h1").text == "a “title”"
    assert browser.one(".stage[tabindex]").size["width"] > 200
    browser.driver.switch_to.default_content()
    assert browser.complaints() == []
