"""Results kept one a line, so that an interrupted experiment goes on where it stopped."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["CellStore"]

Key = tuple[str | int, ...]


class CellStore:
    """A JSON-lines file: first the settings, then one result a line, each with its key.

    A line that an interruption left unfinished is cut off; it is computed again.

    Args:
        path: the file, made with its folder when missing.
        settings: what the results depend on, in plain numbers and strings.

    Raises:
        ValueError: if the file holds results of other settings, or something else.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "cells.jsonl"
        >>> store = CellStore(path, {"seed": 0})
        >>> store.add(("scene", 3), {"miou": 0.5})
        >>> ("scene", 3) in CellStore(path, {"seed": 0})
        True
    """

    def __init__(self, path: Path, settings: dict[str, Any]) -> None:
        self.path = path
        self._cells: dict[Key, dict[str, Any]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or not self._whole_lines():
            path.write_text(json.dumps({"settings": settings}) + "\n")
            return
        first, *lines = path.read_text().splitlines()
        try:
            found = json.loads(first)["settings"]
            self._cells = {tuple(each["key"]): each["value"] for each in map(json.loads, lines)}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} does not hold results of this experiment: {error!r}") from error
        if found != json.loads(json.dumps(settings)):
            raise ValueError(f"{path} holds results of {found}, not of {settings}; give another file, or delete it")

    def _whole_lines(self) -> int:
        """Cut off what follows the last line end; the number of bytes that stay."""
        whole = self.path.read_bytes().rfind(b"\n") + 1
        os.truncate(self.path, whole)
        return whole

    def __contains__(self, key: Key) -> bool:
        return key in self._cells

    def __getitem__(self, key: Key) -> dict[str, Any]:
        return self._cells[key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._cells)

    def add(self, key: Key, value: dict[str, Any]) -> None:
        """Keep a result; it is in the file when this returns."""
        with self.path.open("a") as file:
            file.write(json.dumps({"key": key, "value": value}) + "\n")
        self._cells[key] = value
