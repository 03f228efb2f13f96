"""The code on the pages that promise code runs, from top to bottom, with the models that ship with the package."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest

DOCS = Path(__file__).parents[1] / "docs"


@pytest.mark.parametrize("page", ["language_models.md", "explorer.md", "figures.md", "insights.md"])
def test_the_code_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # what the page saves
    matplotlib.use("agg")
    blocks = re.findall(r"^```python\n(.*?)^```", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    for number, block in enumerate(blocks):
        exec(compile(block, f"{page}, block {number}", "exec"), names)
    assert blocks
