"""Figures as files, as a whole or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from captum_ultra.figures.panels import styled
from captum_ultra.io import written_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["check_suffix", "save_figure"]


@styled
def save_figure(figure: Figure, path: str | Path, *, dpi: int = 200) -> Path:
    """Write a figure; the suffix decides the format. Text stays text in PDF and SVG.

    Args:
        figure: of matplotlib.
        path: its folder is made when missing.
        dpi: pixels an inch, of bitmaps and of the images inside vector formats.

    Returns:
        The path written.

    Raises:
        ValueError: for a suffix that matplotlib cannot write; the message lists those it can.
    """
    path = check_suffix(path)
    with written_whole(path) as unfinished:
        figure.savefig(unfinished, dpi=dpi, bbox_inches="tight", pad_inches=0.03)
    return path


def check_suffix(path: str | Path) -> Path:
    """The path, if its suffix names a format that `save_figure` writes.

    Raises:
        ValueError: the message lists the suffixes that can be written.

    Example:
        >>> check_suffix("map.gif.exe")
        Traceback (most recent call last):
        ...
        ValueError: cannot write 'map.gif.exe': the suffix '.exe' names no format of figures; possible are ...
    """
    from shutil import which

    from matplotlib import rcParams
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    path = Path(path)
    known = set(FigureCanvasAgg.get_supported_filetypes())
    if not which(rcParams["pgf.texsystem"]):
        known.discard("pgf")  # written by TeX
    if path.suffix.lstrip(".").lower() not in known:
        raise ValueError(
            f"cannot write {path.name!r}: the suffix {path.suffix!r} names no format of figures; possible are "
            + ", ".join(f".{suffix}" for suffix in sorted(known))
            + "."
        )
    return path
