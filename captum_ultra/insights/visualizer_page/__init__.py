"""The page of a visualizer: one document, which asks its own server for data and nothing of anybody else."""

from __future__ import annotations

from functools import cache
from importlib import resources

__all__ = ["page"]


def page(nonce: str) -> str:
    """The page, whose style and script run under a nonce of the answer's content security policy.

    Example:
        >>> page("abc").count('nonce="abc"')
        2
    """
    return _whole().replace("{nonce}", nonce)


@cache
def _whole() -> str:
    folder = resources.files(__name__)
    html, style, script = (
        folder.joinpath(name).read_text(encoding="utf-8") for name in ("page.html", "style.css", "script.js")
    )
    return html.replace("/* STYLE */", style).replace("/* SCRIPT */", script)
