"""The code on the pages of the site runs, from top to bottom, in an empty folder.

A block that cannot (it needs a data set, a network, a model of the reader) stands below a comment that says why,
``<!-- not run: needs ... -->``, or is fenced as ``py``; only ``python`` promises code that runs.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib
import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(path.name for path in DOCS.glob("*.md"))
BLOCK = re.compile(r"(?:^<!-- not run: (?P<reason>.+?) -->\n+)?^```python\n(?P<code>.*?)^```", re.MULTILINE | re.DOTALL)


def blocks_of(page: str) -> list[tuple[str, str | None]]:
    """The code of every python block, and the reason why it is not run, if there is one."""
    return [(found["code"], found["reason"]) for found in BLOCK.finditer((DOCS / page).read_text())]


@pytest.mark.parametrize("page", [page for page in PAGES if any(not reason for _, reason in blocks_of(page))])
def test_the_code_of_a_page_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # what the page saves
    matplotlib.use("agg")
    names: dict[str, Any] = {}
    for number, (code, reason) in enumerate(blocks_of(page)):
        if not reason:
            exec(compile(code, f"{page}, block {number}", "exec"), names)


@pytest.mark.parametrize("page", PAGES)
def test_no_block_is_passed_over(page: str) -> None:
    """What looks like a block of Python is one of those that run, or says why not; few do."""
    text = (DOCS / page).read_text()
    found = blocks_of(page)
    assert len(found) == len(re.findall(r"^ *[`~]{3,}(?: *(?:python|py3|pycon)\b|.*\.python)", text, re.MULTILINE))
    assert len(re.findall(r"<!-- not run", text)) == sum(reason is not None for _, reason in found)
    for code, _ in found:
        compile(code, page, "exec")


def test_most_blocks_run() -> None:
    reasons = [reason for page in PAGES for _, reason in blocks_of(page)]
    assert reasons.count(None) >= 30
    assert reasons.count(None) >= 0.8 * len(reasons)
