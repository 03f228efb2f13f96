"""Segment a picture, or all pictures of a folder, and write labels, overlays and a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from captum_ultra.insights.palette import MOST_LABELS, label_colors, overlay
from captum_ultra.insights.segment_page import Entry, write_page
from captum_ultra.io import read_image, written_whole

if TYPE_CHECKING:
    from captum_ultra.models.loader import LoadedModel
    from captum_ultra.segmentation import LatentTokenSegmenter

__all__ = ["Outcome", "find_pictures", "segment_folder", "write_labels"]

KINDS = ("pictures", "labels", "overlays")
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Outcome:
    """What was segmented, what was not and why, and the page that shows it."""

    entries: list[Entry]
    failed: list[tuple[str, str]]
    page: Path


def find_pictures(path: Path, leave_out: Path | None = None) -> list[tuple[Path, str]]:
    """The pictures of a folder and its sub-folders, or a single one, with names for what is made of them.

    Names mirror the sub-folders, so that equal names in different ones stay apart; pictures of one
    folder that differ in the suffix alone keep it in the name.

    Args:
        path: a picture or a folder; what starts with a dot is passed over.
        leave_out: a folder that is not searched, e.g. that of earlier results.

    Returns:
        Pairs of a picture and a relative name that ends in ``.png``, in order.

    Raises:
        ValueError: if nothing is there, or a folder without pictures.
    """
    if not path.exists():
        raise ValueError(f"there is no picture and no folder {str(path)!r}.")
    if path.is_file():
        return [(path, f"{path.stem}.png")]
    found = sorted(each for each in path.rglob("*") if _is_picture(each, path, leave_out))
    if not found:
        raise ValueError(f"the folder {str(path)!r} holds no pictures ({', '.join(SUFFIXES)}).")
    # Without regard to case, as some file systems look at names.
    taken = Counter(str(each.with_suffix("")).casefold() for each in found)
    crowded = {each.parent for each in found if taken[str(each.with_suffix("")).casefold()] > 1}
    names = [each.relative_to(path) for each in found]
    return [
        (each, str(name.with_name(name.name + ".png") if each.parent in crowded else name.with_suffix(".png")))
        for each, name in zip(found, names, strict=True)
    ]


def _is_picture(file: Path, root: Path, leave_out: Path | None) -> bool:
    if file.suffix.lower() not in SUFFIXES or not file.is_file():
        return False
    if leave_out is not None and leave_out.resolve() in file.resolve().parents:
        return False
    return not any(part.startswith(".") for part in file.relative_to(root).parts)


def segment_folder(
    loaded: LoadedModel,
    segmenter: LatentTokenSegmenter,
    pictures: Sequence[tuple[Path, str]],
    output: Path,
    summary: str,
    *,
    report: Callable[[str], None] = lambda message: None,
    show_progress: bool | None = False,
) -> Outcome:
    """Segment pictures one by one; every file is written whole or not at all.

    Below ``output``: ``pictures/`` (what the model saw), ``labels/`` (bytes with a palette, numbers
    from 0), ``overlays/``, and ``index.html``, which links to them.

    Args:
        loaded: a model that reads images.
        segmenter: of that model.
        pictures: from :func:`find_pictures`.
        output: a folder, made when missing.
        summary: one sentence for the page.
        report: is told of every picture that cannot be read or written, which is then passed over.
        show_progress: show a bar with the remaining time; None shows it on a terminal only.

    Raises:
        ValueError, TypeError: what cannot succeed with any picture ends the run at the first one.
    """
    if loaded.preprocess is None:
        raise ValueError(f"{loaded.name!r} reads {loaded.kind}, not images.")
    entries: list[Entry] = []
    failed: list[tuple[str, str]] = []
    for file, name in tqdm(pictures, desc="pictures", disable=None if show_progress is None else not show_progress):
        try:
            inputs = loaded.preprocess(read_image(file))
        except ValueError as error:
            failed.append((str(file), str(error)))
            report(str(error))
            continue
        labels = segmenter.segment(inputs).labels[0].numpy()
        regions = int(labels.max()) + 1
        if regions > MOST_LABELS:
            failed.append((str(file), f"{regions} regions, of which a label image holds {MOST_LABELS}"))
            report(f"{str(file)!r} falls into {failed[-1][1]}: raise the threshold, or give a number of clusters.")
            continue
        seen = loaded.picture(inputs)[0].numpy()
        write_labels(output / "labels" / name, labels)
        _write_rgb(output / "overlays" / name, overlay(seen, labels))
        _write_rgb(output / "pictures" / name, (255 * seen).round().astype(np.uint8))
        entries.append(Entry(str(file), Path(name).as_posix(), regions))
    page = output / "index.html"
    write_page(page, entries, failed, KINDS, summary)
    return Outcome(entries, failed, page)


def write_labels(path: Path, labels: NDArray[np.integer]) -> None:
    """Write labels [H, W] from 0 to 255 as a PNG whose bytes are the labels and whose palette shows them."""
    from PIL import Image

    image = Image.fromarray(labels.astype(np.uint8))
    image.putpalette(label_colors(MOST_LABELS).tobytes())
    with written_whole(path) as unfinished:
        image.save(unfinished)


def _write_rgb(path: Path, pixels: NDArray[np.uint8]) -> None:
    from PIL import Image

    with written_whole(path) as unfinished:
        Image.fromarray(pixels).save(unfinished)
