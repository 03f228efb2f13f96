"""Put the explorer's page together: style and scripts of web/explorer in one template, with no tool but Python.

python tools/build_explorer.py          # writes captum_ultra/insights/explorer/page.html
python tools/build_explorer.py --check  # exit code 1 if that file is not what the sources make
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ROOT / "web" / "explorer"
PAGE = ROOT / "captum_ultra" / "insights" / "explorer" / "page.html"
# Each file uses what stands before it.
SCRIPTS = (
    "numbers", "colours", "dom", "tree", "stage", "segments", "image_view", "pins", "image_page", "text_view",
    "text_page", "main",
)  # fmt: skip


def built() -> str:
    """The page's template, with the script in a scope of its own."""
    scripts = [(SOURCES / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    script = '(() => {\n"use strict";\n\n' + "\n".join(scripts) + "\n})();"
    style = (SOURCES / "style.css").read_text(encoding="utf-8")
    if "</script" in script or "{% endraw" in script or "{{" in style or "{%" in style or "{#" in style:
        raise ValueError("the sources hold what would end the script, or what the template would read as its own")
    page = (SOURCES / "page.html").read_text(encoding="utf-8")
    return page.replace("/* STYLE */", style.strip()).replace("/* SCRIPT */", script)


def main() -> int:
    if "--check" in sys.argv[1:]:
        return 0 if PAGE.exists() and PAGE.read_text(encoding="utf-8") == built() else 1
    PAGE.write_text(built(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
