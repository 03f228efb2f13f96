"""The visualizer's page in a browser: what is chosen is computed and drawn; nothing is asked of anybody else."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch

from captum_ultra.insights.features import Batch, ImageFeature, TextFeature
from captum_ultra.insights.visualizer import TokenVisualizer
from captum_ultra.insights.visualizer_requests import explained
from captum_ultra.insights.visualizer_server import VisualizerServer
from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig
from tests.insights.explorer.browser import Browser, opened

NASTY = "<img src=x onerror=document.title='caught'>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    yield from opened()


@pytest.fixture(scope="module")
def visualizer() -> TokenVisualizer:
    torch.manual_seed(0)
    models = [ViTClassifier(ViTClassifierConfig(image_size=16, dim=16, depth=2, heads=2)).eval() for _ in range(2)]
    names = ["disk", NASTY, "triangle", "ring", "star", "cross"]
    images = torch.rand(30, 3, 16, 16)
    dataset = [Batch(images, labels=torch.arange(30) % 6)]
    return TokenVisualizer(models, names, ImageFeature(NASTY), dataset, lambda logits: logits.softmax(-1))


@pytest.fixture(scope="module")
def server(visualizer: TokenVisualizer) -> Iterator[VisualizerServer]:
    with visualizer.serve() as running:
        yield running


class Page:
    """The page, opened anew."""

    def __init__(self, browser: Browser, url: str, width: int = 1200) -> None:
        self.browser = browser
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        browser.complaints()
        browser.requests()
        browser.driver.get(url)
        self.settled()

    def wait(self, true: Callable[[], Any]) -> None:
        from selenium.webdriver.support.ui import WebDriverWait

        WebDriverWait(self.browser.driver, 60, poll_frequency=0.05).until(lambda _: true())

    def settled(self) -> None:
        """Wait until what was asked for is drawn."""
        self.wait(lambda: self.browser.ask("!asking && !again && at('status').textContent !== 'Reading the samples …'"))

    def choose(self, selector: str, text: str) -> None:
        from selenium.webdriver.support.ui import Select

        Select(self.browser.one(selector)).select_by_visible_text(text)
        self.settled()

    def write(self, selector: str, text: str) -> None:
        element = self.browser.one(selector)
        element.clear()
        element.send_keys(text)
        self.browser.keys(element, "TAB")
        self.settled()

    @property
    def status(self) -> str:
        return str(self.browser.one("#status").text)


@pytest.fixture
def page(browser: Browser, server: VisualizerServer) -> Page:
    return Page(browser, server.url)


def drawn(page: Page) -> Any:
    """The colours [H, W, 3] of the map's canvas."""
    return page.browser.pixels(page.browser.one("#map"))[..., :3]


def expected(page: Page, visualizer: TokenVisualizer, **changes: Any) -> Any:
    """What the server says for a request, in the colours that the page has for it."""
    asked = {"sample": 0, "model": 0, "method": "LatentTokenAttribution", "target": None, "arguments": {}, **changes}
    answer = explained(visualizer, asked)
    steps = np.frombuffer(base64.b64decode(answer["map"]), dtype=np.uint8).reshape(answer["shape"])
    signed = "true" if answer["signed"] else "false"
    share = f"{signed} ? step / 127.5 - 1 : step / 255"
    colors = page.browser.ask(f"Array.from({{length: 256}}, (_, step) => shade({share}, {signed}))")
    return np.array(colors)[steps]


def test_the_first_sample_is_explained_at_once(page: Page, visualizer: TokenVisualizer) -> None:
    np.testing.assert_array_equal(drawn(page), expected(page, visualizer))
    assert page.status.startswith("Computed in ")
    assert not page.browser.complaints()


def test_sample_model_method_and_arguments_are_chosen(page: Page, visualizer: TokenVisualizer) -> None:
    page.browser.all(".sample")[5].click()
    page.settled()
    np.testing.assert_array_equal(drawn(page), expected(page, visualizer, sample=5))
    page.write("#argument-token", "2 3")
    page.write("#argument-layer", "1")
    page.choose("#argument-score", "energy")
    arguments = {"token": "2 3", "layer": "1", "score": "energy"}
    np.testing.assert_array_equal(drawn(page), expected(page, visualizer, sample=5, arguments=arguments))
    page.choose("#model", "1: ViTClassifier")
    np.testing.assert_array_equal(drawn(page), expected(page, visualizer, sample=5, model=1, arguments=arguments))
    page.choose("#method", "AttCAT")
    np.testing.assert_array_equal(drawn(page), expected(page, visualizer, sample=5, model=1, method="AttCAT"))
    assert not page.browser.complaints()


def test_a_click_on_the_image_chooses_the_token(page: Page, visualizer: TokenVisualizer) -> None:
    page.browser.point(page.browser.one(".stage.image"), (1 + 0.5) / 4, (3 + 0.5) / 4, click=True)
    page.settled()
    assert page.browser.one("#argument-token").get_attribute("value") == "3 1"
    np.testing.assert_array_equal(drawn(page), expected(page, visualizer, arguments={"token": "3 1"}))
    ring = page.browser.ask("[...document.querySelectorAll('.ring')].map(({style}) => [style.left, style.top])")
    assert ring == [["25%", "75%"]] * 2


def test_a_chip_chooses_the_class(page: Page, visualizer: TokenVisualizer) -> None:
    page.choose("#method", "GenericAttention")
    chips = page.browser.all("#classes button")
    assert [chip.get_attribute("aria-pressed") for chip in chips] == ["true", "false", "false", "false"]
    chips[2].click()
    page.settled()
    second = visualizer.explain(0, "GenericAttention").predictions[2]
    np.testing.assert_array_equal(
        drawn(page), expected(page, visualizer, method="GenericAttention", target=second.index)
    )
    assert page.browser.all("#classes button")[2].get_attribute("aria-pressed") == "true"


def test_samples_that_cannot_be_read_are_told(browser: Browser) -> None:
    dataset = [Batch(torch.rand(3, 3, 16, 16), labels=torch.tensor([torch.nan, 0.0, torch.nan]))]
    model = ViTClassifier(ViTClassifierConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
    with TokenVisualizer(model, model.classes, ImageFeature("Photo"), dataset).serve() as running:
        page = Page(browser, running.url)
        told = [each.text for each in browser.all(".sample")]
        assert ["cannot be read" in each for each in told] == [True, False, True]
        assert page.status.startswith("Computed in ") and browser.ask("state.sample") == 1
        browser.all(".sample")[2].click()
        page.settled()
        assert page.status == "the computation failed; the log of the program says how"


def test_errors_are_told_and_over_with_the_next_choice(page: Page) -> None:
    page.write("#argument-layer", "7")
    assert "layer=7 does not exist" in page.status and not page.browser.all("#map")
    page.write("#argument-layer", "2")
    assert page.status.startswith("Computed in ") and page.browser.all("#map")


def test_more_samples_are_listed_when_they_are_asked_for(page: Page) -> None:
    assert len(page.browser.all(".sample")) == 24
    page.browser.one("#more").click()
    page.wait(lambda: len(page.browser.all(".sample")) == 30)
    assert not page.browser.one("#more").is_displayed()


def test_names_are_no_markup(page: Page) -> None:
    assert NASTY in page.browser.one("#title").text and page.browser.driver.title == "Token visualizer"
    assert NASTY in page.browser.all(".sample")[1].text
    assert not page.browser.all("img[src=x]")


def test_the_explorer_of_the_sample_opens(page: Page) -> None:
    page.browser.all(".sample")[3].click()
    page.settled()
    page.browser.one("#explore").click()
    page.browser.driver.switch_to.frame(page.browser.one("#explorer iframe"))
    try:
        page.wait(lambda: page.browser.all("canvas"))
        assert "sample 3" in page.browser.one("h1").text
        assert page.browser.ready() == "ready"
    finally:
        page.browser.driver.switch_to.default_content()
    assert not page.browser.complaints()


def test_nothing_is_asked_of_anybody_else(page: Page, server: VisualizerServer) -> None:
    page.browser.one("#explore").click()
    page.wait(lambda: page.browser.all("#explorer iframe"))
    assert {url[: len(server.url)] for url in page.browser.requests()} == {server.url}


@pytest.mark.parametrize("width", [360, 1200])
def test_it_fits_its_width(browser: Browser, server: VisualizerServer, width: int) -> None:
    Page(browser, server.url, width)
    assert browser.ask("document.documentElement.scrollWidth") <= width


def test_words_of_a_text_are_chosen(browser: Browser) -> None:
    from tests.insights.test_visualizer import Reader

    torch.manual_seed(0)
    model = Reader().eval()
    words = TextFeature("Review", None, None, lambda ids: [NASTY if each == 3 else f"w{each}" for each in ids[0]])
    visualizer = TokenVisualizer(model, ["bad", "good"], words, [Batch(torch.tensor([[3, 1, 4, 1]]))])
    with visualizer.serve() as server:
        page = Page(browser, server.url)
        page.browser.all(".word")[2].click()
        page.settled()
        shares = [float(each.get_attribute("data-share")) for each in page.browser.all(".word")]
        values = visualizer.explain(0, token=2).values
        np.testing.assert_allclose(shares, values / np.abs(values).max(), atol=1e-4)
        assert [each.text for each in page.browser.all(".word")] == [NASTY, "w1", "w4", "w1"]
        assert "here" in page.browser.all(".word")[2].get_attribute("class")
    page.write("#argument-layer", "1")
    assert "does not answer" in page.status
