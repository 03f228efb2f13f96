"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["bold", "markdown_table"]


def markdown_table(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table.

    Example:
        >>> print(markdown_table(["map", "mIoU"], [["GAE", "61.6"]]))
        | map | mIoU |
        |---|---|
        | GAE | 61.6 |
    """
    names = list(header)
    lines = ["| " + " | ".join(cells) + " |" for cells in (names, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(names), *lines[1:]])


def bold(text: str, is_best: bool) -> str:
    """A cell, in bold if it is the best of its kind; an empty one stays empty."""
    return f"**{text}**" if is_best and text else text
