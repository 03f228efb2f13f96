"""Pictures of every mode: what they show, that every way to a model decodes them alike, and what cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captum_ultra.data.imagenet import ClassFolders
from captum_ultra.data.transforms import image_tensor
from captum_ultra.io import open_image, read_image, rgb
from captum_ultra.models.loader import load_model

ORIENTATION = 0x0112
COLOURS = np.zeros((6, 8, 3), np.uint8)
COLOURS[:3, :4], COLOURS[:3, 4:], COLOURS[3:, :4], COLOURS[3:, 4:] = (
    (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255),
)  # fmt: skip
GREYS = (np.arange(48).reshape(6, 8) * 5).astype(np.uint8)
BLACK = np.zeros_like(GREYS)
# Shown where the left half is opaque and the right half is not.
HALF = np.where(np.arange(8) < 4, 255, 0).astype(np.uint8) + BLACK
GREYS_ON_WHITE = np.where(HALF == 255, GREYS, 255)
COLOURS_ON_WHITE = np.where(HALF[..., None] == 255, COLOURS, 255)


def rotated(pixels: np.ndarray) -> dict[str, Any]:
    """What a camera that was turned writes: the pixels lie on their side, and how to turn them stands beside."""
    image = Image.fromarray(np.rot90(pixels).copy())
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return {"image": image, "exif": exif}


def palette(transparent: bool) -> dict[str, Any]:
    image = Image.fromarray(COLOURS).convert("P", palette=Image.Palette.ADAPTIVE, colors=4)
    return {"image": image, **({"transparency": image.getpixel((0, 0))} if transparent else {})}


# name: how it is written, and what it shows.
PICTURES: dict[str, tuple[Callable[[], dict[str, Any]], np.ndarray]] = {
    "colours.png": (lambda: {"image": Image.fromarray(COLOURS)}, COLOURS),
    "turned.png": (lambda: rotated(COLOURS), COLOURS),
    "turned.tif": (lambda: rotated(COLOURS), COLOURS),
    "turned grey.jpg": (lambda: rotated(BLACK + 90) | {"quality": 100}, BLACK + 90),
    "turned 16 bits.tif": (lambda: rotated(GREYS.astype(np.uint16) * 257), GREYS),
    "grey.png": (lambda: {"image": Image.fromarray(GREYS)}, GREYS),
    "two values.png": (lambda: {"image": Image.fromarray(HALF).convert("1")}, HALF),
    "16 bits.png": (lambda: {"image": Image.fromarray(GREYS.astype(np.uint16) * 257)}, GREYS),
    "16 bits, see-through.png": (
        lambda: {"image": Image.fromarray(HALF.astype(np.uint16) * 100), "transparency": 0}, np.where(HALF, 99, 255)
    ),
    "16 bits.pgm": (lambda: {"image": Image.fromarray(GREYS.astype(np.int32) * 257)}, GREYS),
    "see-through.png": (lambda: {"image": Image.fromarray(np.dstack([COLOURS, HALF]))}, COLOURS_ON_WHITE),
    "see-through grey.png": (lambda: {"image": Image.fromarray(np.dstack([GREYS, HALF]))}, GREYS_ON_WHITE),
    "see-through black.png": (lambda: {"image": Image.new("RGBA", (8, 6), (0, 0, 0, 0))}, BLACK + 255),
    "one colour see-through.png": (
        lambda: {"image": Image.fromarray(COLOURS), "transparency": (255, 0, 0)},
        np.where((COLOURS == (255, 0, 0)).all(-1, keepdims=True), 255, COLOURS),
    ),
    "palette.png": (lambda: palette(False), COLOURS),
    "palette, see-through.png": (
        lambda: palette(True), np.where((COLOURS == (255, 0, 0)).all(-1, keepdims=True), 255, COLOURS)
    ),
    "palette.gif": (lambda: palette(False), COLOURS),
    "inks.tif": (lambda: {"image": Image.fromarray(COLOURS).convert("CMYK")}, COLOURS),
}  # fmt: skip


def written(folder: Path, name: str) -> Path:
    options = PICTURES[name][0]()
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    options.pop("image").save(folder / name, **options)
    return folder / name


@pytest.mark.parametrize("name", PICTURES)
def test_what_a_picture_shows(name: str, tmp_path: Path) -> None:
    shown = PICTURES[name][1]
    expected = shown if shown.ndim == 3 else np.repeat(shown[..., None], 3, axis=2)
    found = read_image(written(tmp_path, name))
    assert found.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(found), expected)


@pytest.fixture(scope="module")
def ways() -> list[Callable[[Image.Image], torch.Tensor]]:
    """The preprocessing of models, of this package and of a library."""
    found = [load_model(name, pretrained=False).preprocess for name in ("scenes-vit", "timm:test_vit")]
    return [each for each in found if each is not None]


@pytest.mark.parametrize("name", PICTURES)
def test_every_way_to_a_model_decodes_alike(
    name: str, ways: list[Callable[[Image.Image], torch.Tensor]], tmp_path: Path
) -> None:
    path = written(tmp_path / "class", name)
    for preprocess in ways:
        expected = preprocess(read_image(path))
        with path.open("rb") as file, Image.open(file) as as_it_is:
            assert torch.equal(preprocess(as_it_is), expected)
        assert torch.equal(preprocess(rgb(rgb(open_image(path)))), expected)
        if path.suffix in (".png", ".jpg"):  # of folders of classes
            (sample,) = ClassFolders(tmp_path, None, transform=preprocess)
            assert torch.equal(sample.image, expected)
    if path.suffix in (".png", ".jpg"):
        (sample,) = ClassFolders(tmp_path, None)
        assert torch.equal(sample.image, image_tensor(read_image(path)))


def test_an_orientation_that_cannot_be_read_is_none(tmp_path: Path) -> None:
    for number, exif in enumerate((b"Exif\0\0garbage", b"Exif\0\0II*\0", b"Exif\0\0" + b"\xff" * 40)):
        Image.fromarray(COLOURS).save(tmp_path / f"{number}.png", exif=exif)
        np.testing.assert_array_equal(np.asarray(read_image(tmp_path / f"{number}.png")), COLOURS)


@pytest.mark.parametrize("values", [np.float32([[0.25, 3]]), np.int32([[-1, 5]]), np.int32([[0, 70_000]])])
def test_numbers_of_unknown_range_are_no_picture(values: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(values).save(tmp_path / "numbers.tif")
    with pytest.raises(ValueError, match=r"numbers\.tif is no picture.*no picture says what is white.*8 or 16 bits"):
        read_image(tmp_path / "numbers.tif")
    Image.fromarray(np.uint8([[0, 255]])).save(tmp_path / "numbers.tif")  # the remedy
    assert read_image(tmp_path / "numbers.tif").size == (2, 1)


def test_what_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(ValueError, match=r"text\.png is damaged, or no image: it begins like none"):
        read_image(tmp_path / "text.png")
    with pytest.raises(ValueError, match=r"there is no picture .*none\.png"):
        read_image(tmp_path / "none.png")
    with pytest.raises(ValueError, match="is damaged, or no image"):
        read_image(tmp_path)
    path = written(tmp_path, "colours.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20)  # more than twice as many are called a bomb
    with pytest.raises(ValueError, match=r"colours\.png has too many pixels.*make it smaller"):
        read_image(path)
    Image.fromarray(COLOURS[:4, :4]).save(path)  # the remedy
    assert read_image(path).size == (4, 4)
