"""For the documentation's build: the tutorials as pages, with the results that are stored in them; nothing is run.

``make tutorials`` runs the notebooks and stores their results; a test runs them as well.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

TUTORIALS = Path(__file__).parents[1] / "tutorials"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Called by mkdocs with the files of the site: add one page a notebook, and its pictures."""
    for path in sorted(TUTORIALS.glob("*.ipynb")):
        page, pictures = page_of(json.loads(path.read_text()), path.stem)
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=page))
        for name, data in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=data))
    return files


def page_of(notebook: dict[str, Any], stem: str) -> tuple[str, dict[str, bytes]]:
    """The Markdown of a notebook, and its pictures by file name."""
    parts: list[str] = []
    pictures: dict[str, bytes] = {}
    for cell in notebook["cells"]:
        source = _text(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source.replace("](../docs/", "](../"))  # the tutorials' folder lies in docs/ on the site
        elif cell["cell_type"] == "code" and (shown := _without_magics(source)):
            parts.append(_fenced(shown, "python"))
        for output in cell.get("outputs", []):
            found = output.get("data", {})
            if "image/png" in found:
                name = f"{stem}_{len(pictures)}.png"
                pictures[name] = base64.b64decode(_text(found["image/png"]))
                parts.append(f"![The result of the lines above]({name})")
            elif printed := _text(output.get("text", found.get("text/plain", ""))).rstrip():
                parts.append(_fenced(printed, "text"))
    download = f"*This page is the notebook `tutorials/{stem}.ipynb` with its stored results.*"
    return "\n\n".join([*parts, download]) + "\n", pictures


def _text(lines: str | list[str]) -> str:
    return lines if isinstance(lines, str) else "".join(lines)


def _without_magics(source: str) -> str:
    return "\n".join(line for line in source.splitlines() if not line.startswith("%")).strip()


def _fenced(text: str, language: str) -> str:
    return f"````{language}\n{text}\n````"
