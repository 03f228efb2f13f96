"""Files that are there as a whole or not at all; results in one file, tensors and everything else beside them."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass

__all__ = ["load_tensors", "save_tensors", "written_whole"]

_KEY, _FORMAT = "captum_ultra", 1


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a path to write to; on success the file takes its final name, on an exception it goes.

    Args:
        path: the final name; its folder is made when missing, a file of that name is replaced.

    Raises:
        OSError: the folder cannot be made or written.

    Example:
        >>> folder = Path(tempfile.mkdtemp())
        >>> with written_whole(folder / "note.txt") as unfinished:
        ...     _ = unfinished.write_text("done")
        >>> [file.name for file in folder.iterdir()]
        ['note.txt']
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file.")
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        unfinished = Path(folder) / path.name
        yield unfinished
        os.replace(unfinished, path)


def save_tensors(values: dict[str, Any], kind: str, path: Path) -> Path:
    """Write values to a .safetensors file.

    Args:
        values: tensors, and what JSON can hold; a None is left for `load_tensors` to miss.
        kind: says what the values are, for `load_tensors` to check.
        path: its folder is made when missing.

    Raises:
        ValueError: for another suffix.
    """
    import torch
    from safetensors.torch import save_file

    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"cannot save to {path.name!r}: the file has to end in .safetensors")
    tensors = {name: each.contiguous() for name, each in values.items() if isinstance(each, torch.Tensor)}
    rest = {name: each for name, each in values.items() if not isinstance(each, torch.Tensor)}
    metadata = {_KEY: json.dumps({"format": _FORMAT, "kind": kind, "values": rest})}
    with written_whole(path) as unfinished:
        save_file(tensors, unfinished, metadata=metadata)
    return path


def load_tensors(kind: str, path: Path) -> dict[str, Any]:
    """The values of a file that `save_tensors` wrote; tuples come back as lists.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no safetensors file, or holds something else.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            metadata = (file.metadata() or {}).get(_KEY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
    except SafetensorError as error:
        raise ValueError(f"{path} is no .safetensors file ({error})") from error
    found = json.loads(metadata) if metadata else {}
    if (found.get("kind"), found.get("format")) != (kind, _FORMAT):
        holds = f"a result of kind {found['kind']!r}, format {found['format']}" if found else "no saved result"
        raise ValueError(f"{path} holds {holds}; kind {kind!r}, format {_FORMAT} was expected")
    return {**found["values"], **tensors}
