"""The folder of an evaluation: what it belongs to, and what is finished."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from captum_ultra.experiments.cell_store import CellStore
from captum_ultra.io import written_whole

__all__ = ["claim", "digest", "versions", "weights_digest"]

_LIBRARIES = (
    "captum_ultra", "torch", "numpy", "scipy", "torchmetrics", "timm", "transformers", "open_clip_torch", "torchvision",
    "h5py",
)  # fmt: skip


def claim(folder: Path, identity: dict[str, Any]) -> CellStore:
    """The finished images of a folder, which is made when missing.

    Args:
        folder: of one evaluation.
        identity: what its results depend on, in plain numbers, lists and strings.

    Raises:
        ValueError: if the folder belongs to an evaluation with another identity; says what differs.
        OSError: if it cannot be made or written.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp()) / "out"
        >>> claim(folder, {"layer": 5}).add(("image 1",), {"iou": 0.5})
        >>> len(list(claim(folder, {"layer": 5})))
        1
        >>> claim(folder, {"layer": 6})
        Traceback (most recent call last):
        ...
        ValueError: ... holds results of other options (layer: 5, now 6); give another folder, or delete it
    """
    path, identity = folder / "options.json", json.loads(json.dumps(identity))
    if path.is_file():
        _check_same(path, identity)
    else:
        with written_whole(path) as unfinished:
            unfinished.write_text(json.dumps(identity, indent=2) + "\n")
    return CellStore(folder / "images.jsonl", {"options": digest(json.dumps(identity, sort_keys=True))})


def digest(text: str) -> str:
    """A short name of a long text, the same on every machine.

    Example:
        >>> digest("scenes")
        '6dd792f8896c88b5'
    """
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def weights_digest(model: nn.Module) -> str:
    """A short name of a model's parameters and buffers, so that weights of the same name are told apart."""
    found = hashlib.sha256()
    for name, value in model.state_dict().items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return found.hexdigest()[:16]


def versions() -> dict[str, str]:
    """Of Python and of the libraries here that take part."""
    installed = {name: found for name in _LIBRARIES if (found := _version(name)) is not None}
    return {"python": platform.python_version(), **installed}


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:  # of an extra that is not needed here
        return None


def _check_same(path: Path, identity: dict[str, Any]) -> None:
    try:
        before = json.loads(path.read_text())
        differing = [name for name in {**before, **identity} if before.get(name) != identity.get(name)]
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} does not hold the options of an evaluation: {error}") from error
    if differing:
        raise ValueError(
            f"{path.parent} holds results of other options ({_changes(before, identity, differing)}); give another "
            "folder, or delete it"
        )


def _changes(before: dict[str, Any], now: dict[str, Any], names: Sequence[str]) -> str:
    return ", ".join(f"{name}: {before.get(name)!r}, now {now.get(name)!r}" for name in names)
