"""Run the code of a page of the documentation in a folder, to see what it saves or to renew the page's pictures.

python tools/run_page.py docs/ten_minutes.md docs/images/ten_minutes
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import matplotlib

from captum_ultra.models.torchvision_shim import ensure_torchvision_imports


def run(page: Path, folder: Path) -> None:
    """Every python block that is not marked as "not run", top to bottom, in one namespace."""
    blocks = re.findall(r"(<!-- not run[^>]*-->\n+)?^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    folder.mkdir(parents=True, exist_ok=True)
    os.chdir(folder)
    names: dict[str, Any] = {}
    for number, (marked, code) in enumerate(blocks):
        if not marked:
            exec(compile(code, f"{page.name}, block {number}", "exec"), names)


if __name__ == "__main__":
    matplotlib.use("agg")
    ensure_torchvision_imports()
    run(Path(sys.argv[1]), Path(sys.argv[2]))
