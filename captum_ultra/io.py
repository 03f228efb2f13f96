"""Files that are there as a whole or not at all, results in one file, and pictures as they are looked at."""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["load_tensors", "open_image", "read_image", "rgb", "save_tensors", "written_whole"]

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


def read_image(path: Path, *, upright: bool = True) -> Image:
    """Read a picture from a file, as :func:`rgb` makes it.

    Args:
        path: the file.
        upright: see :func:`rgb`.

    Raises:
        ValueError: there is no such file, or it is no picture; names it.
    """
    try:
        image = open_image(path)
    except FileNotFoundError:
        raise ValueError(f"there is no picture {str(path)!r}.") from None
    try:
        return rgb(image, upright=upright)
    except ValueError as error:
        raise ValueError(f"{path} is no picture that can be shown: {error}") from error


def open_image(path: Path, *, whole: bool = True) -> Image:
    """An image file as it is stored, decoded (or only its header read).

    Raises:
        FileNotFoundError: if there is none.
        ValueError: if it is damaged or too large; names it.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        # Of a path PIL maps uncompressed TIFFs into memory, and then scrambles those that are to be turned.
        with path.open("rb") as file, Image.open(file) as image:
            if whole:
                image.load()
            return image
    except FileNotFoundError:
        raise
    except Image.DecompressionBombError as error:
        raise ValueError(f"{path} has too many pixels to be read safely; make it smaller. PIL: {error}") from error
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is damaged, or no image: it begins like none that PIL knows") from error
    except Exception as error:  # by format and kind of damage PIL raises whatever the code raises that reads it
        raise ValueError(f"{path} is damaged, or no image: {error or type(error).__name__}") from error


def rgb(image: Image, *, upright: bool = True) -> Image:
    """A picture as it is looked at: 8 bits of red, green and blue, upright, transparent parts over white.

    16 bits become 8 by their upper half, as PIL reads colours of 16 bits.

    Args:
        image: of any mode.
        upright: turn it as EXIF says, and leave nothing that says so; False for the pixels as they are stored, on
            which the labels of data sets lie.

    Raises:
        ValueError: for numbers whose range is unknown, and modes that PIL cannot convert.

    Example:
        >>> from PIL import Image
        >>> rgb(Image.new("LA", (2, 2), (0, 0))).getpixel((0, 0))
        (255, 255, 255)
    """
    from PIL import Image as pil

    if upright:
        image = _upright(image)
    if image.mode.startswith(("I", "F")):
        image = _eight_bits(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = pil.alpha_composite(pil.new("RGBA", image.size, "white"), image)
    seen = image.convert("RGB")
    seen.info.clear()
    return seen


def _upright(image: Image) -> Image:
    from PIL.ExifTags import Base
    from PIL.Image import Transpose

    # ImageOps.exif_transpose also writes the EXIF anew, which fails where any other tag of it is damaged.
    image.load()  # TIFFs are turned by this
    turns = {
        2: Transpose.FLIP_LEFT_RIGHT, 3: Transpose.ROTATE_180, 4: Transpose.FLIP_TOP_BOTTOM, 5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90,
    }  # fmt: skip
    try:
        turn = turns.get(image.getexif().get(Base.Orientation, 1))
    except (SyntaxError, struct.error, LookupError, OSError, TypeError, ValueError):  # EXIF is often damaged
        turn = None
    return image if turn is None else image.transpose(turn)


def _eight_bits(image: Image) -> Image:
    """Grey values of 16 bits, which PIL also keeps in 32, by their upper half."""
    from PIL import Image as pil

    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError(
            f"its values go from {values.min()} to {values.max()}, and no picture says what is white; save it with 8 "
            "or 16 bits a channel"
        )
    grey = pil.fromarray((values >> 8).astype(np.uint8))
    if "transparency" in image.info:
        grey.putalpha(pil.fromarray(np.where(values == image.info["transparency"], 0, 255).astype(np.uint8)))
    return grey
