"""Take the picture of the explorer that the documentation shows: a held-out scene, the shipped model, all layers.

python tools/picture_explorer.py  # writes docs/images/explorer.png; needs Chromium and its driver
"""

from __future__ import annotations

import sys
import tempfile
from io import BytesIO
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from captum_ultra.data import Scenes
from captum_ultra.insights import explore
from captum_ultra.models.loader import load_model
from tests.insights.explorer.browser import Browser, missing

ROOT = Path(__file__).parents[1]
WIDTH = 920
PATCHES = ((11, 5), (4, 12), (5, 4))  # of three objects; the last one stays under the pointer


def main() -> None:
    if reason := missing():
        raise SystemExit(reason)
    loaded, scene = load_model("scenes-vit"), Scenes(1)[0]
    page = explore(
        loaded, loaded.model.preprocess(scene.image[None]), picture=scene.image, title="A scene, and its tokens"
    )
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser()
        try:
            browser.open(page.save(Path(folder) / "page.html"), width=WIDTH, height=900)
            for patch in PATCHES:
                browser.ask("page.moveTo(page.views[0], arguments[0], false)", patch)
                browser.ask("page.pin()")
            browser.ask("page.setCut({k: 8})")
            height = browser.ask("document.documentElement.scrollHeight")
            size = {"width": WIDTH, "height": height, "deviceScaleFactor": 1, "mobile": False}
            browser.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
            taken = Image.open(BytesIO(browser.driver.get_screenshot_as_png())).convert("RGB")
            # Colours in steps of four: not seen, and a smaller file.
            taken.point(lambda value: value & 0xFC | value >> 6).save(
                ROOT / "docs" / "images" / "explorer.png", optimize=True
            )
        finally:
            browser.driver.quit()


if __name__ == "__main__":
    main()
