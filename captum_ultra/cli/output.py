"""Whether a file can be written, asked before the work that fills it."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["check_place"]


def check_place(path: Path) -> None:
    """Raise where a file cannot be written: its name is a folder's, or its folder cannot be made or written.

    Raises:
        ValueError: says why, and what to do.

    Example:
        >>> check_place(Path("."))
        Traceback (most recent call last):
        ...
        ValueError: --output '.' is a folder; give the name of a file in it
    """
    if path.is_dir():
        raise ValueError(f"--output {str(path)!r} is a folder; give the name of a file in it")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ValueError(f"--output {str(path)!r}: {str(folder)!r} is a file, no folder; give another folder")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ValueError(f"--output {str(path)!r}: nothing may be written in {str(folder)!r}; give another folder")
