"""Take the picture of the visualizer that the documentation shows: the shipped classifier on held-out scenes.

python -m tools.picture_visualizer  # writes docs/images/visualizer.png; needs Chromium and its driver
"""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from selenium.webdriver.support.ui import Select, WebDriverWait

from captum_ultra.data import ObjectScenes
from captum_ultra.insights import Batch, ImageFeature, TokenVisualizer
from captum_ultra.models.loader import load_model
from tests.insights.explorer.browser import Browser, missing

ROOT = Path(__file__).parents[1]
SIZE = {"width": 1100, "height": 760, "deviceScaleFactor": 1, "mobile": False}


def visualizer() -> TokenVisualizer:
    loaded, scenes = load_model("scenes-classifier"), list(ObjectScenes(12))
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (loaded.mean, loaded.std))
    dataset = [Batch(torch.stack([scene.image for scene in scenes]), torch.tensor([scene.label for scene in scenes]))]
    feature = ImageFeature("Object scene", input_transforms=lambda image: (image - mean) / std)
    return TokenVisualizer(loaded.model, loaded.classes, feature, dataset, lambda logits: logits.softmax(-1))


def main() -> None:
    if reason := missing():
        raise SystemExit(reason)
    path = ROOT / "docs" / "images" / "visualizer.png"
    browser = Browser()
    driver = browser.driver
    settled = WebDriverWait(driver, 60)

    def wait() -> None:
        settled.until(lambda _: browser.ask("!asking && !again && !!document.querySelector('#map')"))

    try:
        with visualizer().serve() as server:
            driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", SIZE)
            driver.get(server.url)
            wait()
            browser.all(".sample")[2].click()
            wait()
            Select(browser.one("#method")).select_by_visible_text("GenericAttention")
            wait()
            driver.save_screenshot(str(path))
    finally:
        driver.quit()
    with Image.open(path) as image:
        image.convert("RGB").save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
