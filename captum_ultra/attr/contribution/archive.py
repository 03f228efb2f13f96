"""Results in one file: tensors as safetensors, everything else as JSON in the metadata."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from torch import Tensor

__all__ = ["load", "save"]

_KEY, _FORMAT = "captum_ultra", 1


def save(values: dict[str, Any], kind: str, path: Path) -> Path:
    """Write values to a .safetensors file.

    Args:
        values: tensors, and what JSON can hold; a None is left for `load` to miss.
        kind: says what the values are, for `load` to check.
        path: its folder is made when missing.

    Raises:
        ValueError: for another suffix.
    """
    from safetensors.torch import save_file

    from captum_ultra.insights.files import written_whole

    if path.suffix.lower() != ".safetensors":
        raise ValueError(f"cannot save to {path.name!r}: the file has to end in .safetensors")
    tensors = {name: each.contiguous() for name, each in values.items() if isinstance(each, Tensor)}
    rest = {name: each for name, each in values.items() if not isinstance(each, Tensor)}
    metadata = {_KEY: json.dumps({"format": _FORMAT, "kind": kind, "values": rest})}
    with written_whole(path) as unfinished:
        save_file(tensors, unfinished, metadata=metadata)
    return path


def load(kind: str, path: Path) -> dict[str, Any]:
    """The values of a file that `save` wrote; tuples come back as lists.

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
