"""Pickles that hold dictionaries, lists, strings, numbers and numpy arrays, and nothing that could run."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["read_plain_pickle"]


def _bytes_of(text: str, encoding: str = "latin1") -> bytes:
    """What Python 3 writes for bytes into a pickle that Python 2 can read."""
    return text.encode(encoding)


# numpy moved its core; the function is asked of numpy itself, which knows where this version keeps it.
_MODULES = ("numpy.core.multiarray", "numpy._core.multiarray")
_ALLOWED: dict[tuple[str, str], Any] = {
    **{(module, "_reconstruct"): np.empty(0).__reduce__()[0] for module in _MODULES},
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): _bytes_of,
}


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        try:
            return _ALLOWED[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no plain data needs") from None


def read_plain_pickle(path: Path) -> Any:
    """The object in a pickle of plain data, of Python 2 or 3; byte strings of Python 2 stay bytes.

    A pickle is a program: it may name any function and call it. Here only what rebuilds a numpy array is found.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is damaged, or asks for anything else; names the file.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "batch"
        >>> _ = path.write_bytes(pickle.dumps({b"data": np.zeros(2)}))
        >>> read_plain_pickle(path)
        {b'data': array([0., 0.])}
        >>> _ = path.write_bytes(pickle.dumps(print))
        >>> read_plain_pickle(path)
        Traceback (most recent call last):
        ...
        ValueError: ...batch is damaged, or no plain pickle: it asks for builtins.print, which no plain data needs
    """
    with path.open("rb") as file:
        try:
            return _PlainUnpickler(file, encoding="bytes").load()
        # A damaged pickle may raise whatever the objects that it builds raise.
        except Exception as error:
            raise ValueError(f"{path} is damaged, or no plain pickle: {error}") from error
