"""A browser for tests: Debian's Chromium without a window, driven by selenium."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

__all__ = ["Browser", "missing", "opened"]

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")


def missing() -> str:
    """Why no browser can be driven; empty if one can."""
    if CHROMIUM is None or DRIVER is None:
        return "no browser: apt-get install chromium chromium-driver brings one"
    try:
        import selenium  # noqa: F401
    except ModuleNotFoundError:
        return "selenium is not installed; it is in the extra 'test'"
    return ""


class Browser:
    """One browser, and what tests ask of a page."""

    def __init__(self) -> None:
        from selenium import webdriver

        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM or ""
        for argument in (
            "--headless=new",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--hide-scrollbars",
            "--window-size=1200,900",
        ):
            options.add_argument(argument)
        if os.geteuid() == 0:  # Chromium's sandbox does not run as root, as in a container
            options.add_argument("--no-sandbox")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        self.driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
        self.driver.set_script_timeout(60)

    def open(self, path: Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Load a page and wait until it is built; forget what was logged before."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(path.as_uri())
        assert self.ready() == "ready"

    def ready(self) -> str:
        return self.driver.execute_async_script(
            "const done = arguments[0];"
            "window.explorer.then((page) => { window.page = page; done('ready'); }, (error) => done(String(error)));"
        )

    def ask(self, script: str, *arguments: Any) -> Any:
        """The value of an expression; ``page`` is the page's object."""
        return self.driver.execute_script(f"return {script}", *arguments)

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def keys(self, element: Any, *names: str) -> None:
        from selenium.webdriver.common.keys import Keys

        element.send_keys(*(getattr(Keys, name) for name in names))

    def point(self, element: Any, x: float = 0.5, y: float = 0.5, *, click: bool = False) -> None:
        """Move the mouse to a place of an element, in shares of its size."""
        from selenium.webdriver import ActionChains

        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
        box = element.size
        actions = ActionChains(self.driver, duration=0)
        actions.move_to_element_with_offset(element, int((x - 0.5) * box["width"]), int((y - 0.5) * box["height"]))
        (actions.click() if click else actions).perform()

    def pixels(self, canvas: Any) -> NDArray[np.int64]:
        """What is drawn on a canvas, [H, W, 4]."""
        script = (
            "const {width, height} = arguments[0], copy = document.createElement('canvas');"
            "Object.assign(copy, {width, height});"
            "const context = copy.getContext('2d', {willReadFrequently: true});"
            "context.drawImage(arguments[0], 0, 0);"
            "return [height, width, [...context.getImageData(0, 0, width, height).data]]"
        )
        height, width, data = self.driver.execute_script(script, canvas)
        return np.array(data).reshape(height, width, 4)

    def complaints(self) -> list[str]:
        """What the console says."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that were asked for since the page was opened, its own and inlined data aside."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [each["params"]["request"]["url"] for each in events if each["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith(("file:", "data:"))]


def opened() -> Iterator[Browser]:
    """For a fixture: a browser, or a skipped test with the reason."""
    if reason := missing():
        pytest.skip(reason)
    browser = Browser()
    try:
        yield browser
    finally:
        browser.driver.quit()
