"""How fast the explorer answers and how large its page is: 24 x 24 patches, 12 layers, two methods.

    python -m benchmarks.explorer [--grid 24] [--layers 12] [--moves 200]

Needs Chromium and its driver. The maps are made up: few high values around a patch, many low ones, as in maps of
models, with independent noise, which does not compress. Times are taken in the page: of the script alone, and until
the browser has begun the next frame.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from captum_ultra.insights.explorer import Explorer, ImageMaps
from captum_ultra.insights.explorer.images import linkage_merges
from tests.insights.explorer.browser import Browser, missing

METHODS = ("one", "two")
SCRIPT = """
const [kind, count, done] = arguments;
(async () => {
  const page = await window.explorer, view = page.views[0], [rows, columns] = view.model.grid;
  const acts = {
    move: (i) => page.moveTo(view, [(7 * i) % rows, (5 * i) % columns], false),
    layer: (i) => page.setLayer(i % page.depth),
    k: (i) => page.setCut({k: 2 + (i % 20)}),
    zeta: (i) => page.setCut({zeta: 0.3 + (i % 20) / 40}),
  };
  const times = [];
  for (let i = 0; i < count; i++) {
    const start = performance.now();
    acts[kind](i);
    const script = performance.now();
    await new Promise((next) => requestAnimationFrame(() => {
      const channel = new MessageChannel();
      channel.port1.onmessage = next;
      channel.port2.postMessage(0);
    }));
    times.push([script - start, performance.now() - start]);
  }
  done(times);
})();
"""


def made_up(grid: int, layers: int) -> ImageMaps:
    """Maps [P, P] for two methods at every layer, with their trees."""
    random = np.random.default_rng(0)
    places = np.stack(np.meshgrid(np.arange(grid), np.arange(grid), indexing="ij"), axis=-1).reshape(-1, 2)
    apart = ((places[:, None] - places[None]) ** 2).sum(-1)
    size = (16 * grid, 16 * grid)
    maps, merges = {}, {}
    for method in METHODS:
        for layer in range(1, layers + 1):
            values = (np.exp(-apart / (2 * layer)) + 0.05) * random.gamma(1.0, 1.0, apart.shape)
            maps[method, layer] = values.astype(np.float32)
            merges[method, layer] = linkage_merges(maps[method, layer], (grid, grid), size)
    picture = random.random((*size, 3)).astype(np.float32)
    return ImageMaps("made up", picture, (grid, grid), tuple(range(1, layers + 1)), METHODS, maps, merges)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("grid", 24), ("layers", 12), ("moves", 200)):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args()
    if reason := missing():
        raise SystemExit(reason)
    maps = made_up(options.grid, options.layers)
    with tempfile.TemporaryDirectory() as folder:
        for compared in (None, METHODS):
            page = Explorer.of([maps], "benchmark", compared).save(Path(folder) / "page.html")
            print(f"{'two methods side by side' if compared else 'one view'}: {page.stat().st_size / 1e6:.1f} MB")
            browser = Browser()
            try:
                browser.open(page)
                for kind in ("move", "layer", "k", "zeta"):
                    times = browser.driver.execute_async_script(SCRIPT, kind, options.moves)
                    script, frame = (sorted(column) for column in zip(*times, strict=True))
                    print(
                        f"  {kind:6} script {statistics.median(script):5.1f} ms (95 %: "
                        f"{script[int(0.95 * len(script))]:5.1f}), until the next frame "
                        f"{statistics.median(frame):5.1f} ms (95 %: {frame[int(0.95 * len(frame))]:5.1f})"
                    )
            finally:
                browser.driver.quit()


if __name__ == "__main__":
    main()
