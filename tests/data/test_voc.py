"""PASCAL VOC: numbers and void pixels as in the files; whatever is missing or damaged is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from captum_ultra.data.transforms import ResizeCrop
from captum_ultra.data.voc import VOC_CLASSES, VocSegmentation
from tests.data.files import write_image, write_labels

NAMES = ("2007_000033", "2007_000042")
LABELS = np.array([[0, 1, 20, 255], [15, 15, 0, 255], [7, 0, 0, 0]])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    for number, name in enumerate(NAMES):
        write_image(folder / "JPEGImages" / f"{name}.jpg", 3, 4, seed=number)
        write_labels(folder / "SegmentationClass" / f"{name}.png", LABELS, palette=True)
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(NAMES) + "\n\n")
    return tmp_path


def test_samples(root: Path) -> None:
    data = VocSegmentation(root)
    assert len(data) == 2 and data.names == NAMES and len(data.classes) == len(VOC_CLASSES) == 21
    sample = data[1]
    assert sample.name == NAMES[1]
    assert sample.labels.dtype == torch.int64 and sample.labels.tolist() == LABELS.tolist()
    stored = np.asarray(Image.open(root / "VOCdevkit/VOC2012/JPEGImages" / f"{NAMES[1]}.jpg"))
    assert sample.image.dtype == torch.float32
    torch.testing.assert_close(sample.image, torch.from_numpy(stored.copy()).permute(2, 0, 1) / 255)
    assert [each.name for each in data] == list(NAMES)


@pytest.mark.parametrize("below", ["VOCdevkit", "VOCdevkit/VOC2012"])
def test_any_folder_of_the_archive_is_the_root(root: Path, below: str) -> None:
    assert VocSegmentation(root / below).names == NAMES


def test_the_transform_sees_both(root: Path) -> None:
    sample = VocSegmentation(root, transform=ResizeCrop(2))[0]
    assert sample.image.shape == (3, 2, 2) and sample.labels.shape == (2, 2)
    assert set(sample.labels.flatten().tolist()) <= set(LABELS.flatten().tolist())


def test_missing_files_are_named_before_any_is_read(root: Path) -> None:
    gone = root / "VOCdevkit/VOC2012/SegmentationClass" / f"{NAMES[1]}.png"
    gone.unlink()
    with pytest.raises(FileNotFoundError, match=rf"{NAMES[1]}\.png is missing \(1 of 4 files"):
        VocSegmentation(root)


def test_a_missing_list_says_which_archive_has_it(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"val\.txt is missing.*VOCtrainval_11-May-2012\.tar"):
        VocSegmentation(tmp_path)


def test_an_empty_list(root: Path) -> None:
    (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text("\n")
    with pytest.raises(ValueError, match="names no sample"):
        VocSegmentation(root)


def test_a_list_with_a_byte_order_mark(root: Path) -> None:
    (root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt").write_text("\n".join(NAMES), encoding="utf-8-sig")
    assert VocSegmentation(root).names == NAMES


def test_lists_that_name_a_sample_twice_or_are_no_text(root: Path) -> None:
    path = root / "VOCdevkit/VOC2012/ImageSets/Segmentation/val.txt"
    path.write_text("\n".join([*NAMES, "", NAMES[0]]))
    with pytest.raises(ValueError, match=rf"val\.txt names {NAMES[0]!r} in the lines 1 and 4; .* take one of them out"):
        VocSegmentation(root)
    path.write_bytes("Bär".encode("latin-1"))
    with pytest.raises(ValueError, match=r"val\.txt is no text in UTF-8; save it in UTF-8"):
        VocSegmentation(root)


def test_labels_lie_on_the_pixels_that_are_stored(root: Path) -> None:
    """Turning the picture alone, as its EXIF says, would put the labels upside down without a word."""
    path = root / "VOCdevkit/VOC2012/JPEGImages" / f"{NAMES[0]}.jpg"
    pixels, exif = np.arange(36, dtype=np.uint8).reshape(3, 4, 3), Image.Exif()
    exif[0x0112] = 3
    Image.fromarray(pixels).save(path, format="PNG", exif=exif)
    image = VocSegmentation(root)[0].image
    assert torch.equal((255 * image).round().byte(), torch.from_numpy(pixels).permute(2, 0, 1))


def test_unknown_splits(root: Path) -> None:
    with pytest.raises(ValueError, match="'train', 'val', 'trainval'"):
        VocSegmentation(root, "test")


@pytest.mark.parametrize("folder", ["JPEGImages", "SegmentationClass"])
@pytest.mark.parametrize("keep", [0, 10, 60], ids=lambda keep: f"{keep} bytes")
def test_a_damaged_file_is_named(root: Path, folder: str, keep: int) -> None:
    path = next((root / "VOCdevkit/VOC2012" / folder).glob(f"{NAMES[0]}*"))
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=rf"{NAMES[0]}\.\w+ is damaged"):
        VocSegmentation(root)[0]


def test_headers_are_checked_on_request(root: Path) -> None:
    data = VocSegmentation(root)
    data.check_files()
    label = root / "VOCdevkit/VOC2012/SegmentationClass" / f"{NAMES[1]}.png"
    write_labels(label, LABELS.T)
    with pytest.raises(ValueError, match=rf"{NAMES[1]}\.jpg is 4 x 3 pixels, but .*{NAMES[1]}\.png is 3 x 4"):
        data.check_files()
    with pytest.raises(ValueError, match="3 x 4"):
        data[1]
    label.write_bytes(b"no image")
    with pytest.raises(ValueError, match=rf"{NAMES[1]}\.png is damaged"):
        data.check_files()


def test_a_picture_of_labels_is_no_label_file(root: Path) -> None:
    write_image(root / "VOCdevkit/VOC2012/SegmentationClass" / f"{NAMES[0]}.png", 3, 4)
    with pytest.raises(ValueError, match="holds RGB pixels where one class number"):
        VocSegmentation(root)[0]


def test_labels_of_another_data_set_are_refused(root: Path) -> None:
    write_labels(root / "VOCdevkit/VOC2012/SegmentationClass" / f"{NAMES[0]}.png", np.full((3, 4), 21))
    with pytest.raises(ValueError, match="holds the label 21"):
        VocSegmentation(root)[0]


@pytest.mark.parametrize("index", [2, -1])
def test_indices_past_the_ends(root: Path, index: int) -> None:
    with pytest.raises(IndexError, match=f"sample {index} of 2"):
        VocSegmentation(root)[index]
