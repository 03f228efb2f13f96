"""Cityscapes: 27 classes, void below them, two cities in one order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from captum_ultra.data.cityscapes import CITYSCAPES_CLASSES, CityscapesSegmentation
from tests.data.files import write_image, write_labels

FRAMES = ("frankfurt/frankfurt_000000_000294", "munster/munster_000000_000019")
IDS = np.array([*range(34), 255]).reshape(5, 7)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for frame in FRAMES:
        write_image(tmp_path / "leftImg8bit" / "val" / f"{frame}_leftImg8bit.png", *IDS.shape)
        write_labels(tmp_path / "gtFine" / "val" / f"{frame}_gtFine_labelIds.png", IDS)
        write_labels(tmp_path / "gtFine" / "val" / f"{frame}_gtFine_instanceIds.png", IDS)
    for hidden in ("frankfurt/._a", ".trash/b"):  # no frame
        write_labels(tmp_path / "gtFine" / "val" / f"{hidden}_gtFine_labelIds.png", IDS)
    return tmp_path


def test_labels(root: Path) -> None:
    data = CityscapesSegmentation(root)
    assert data.names == tuple(frame.rpartition("/")[2] for frame in FRAMES)
    assert data[1].labels.flatten().tolist() == [255] * 7 + list(range(27)) + [255]


def test_classes_stand_where_the_label_definitions_have_them() -> None:
    ids = {7: "road", 8: "sidewalk", 11: "building", 17: "pole", 23: "sky", 24: "person", 26: "car", 33: "bicycle"}
    assert len(CITYSCAPES_CLASSES) == 27
    assert {number: CITYSCAPES_CLASSES[number - 7] for number in ids} == ids


def test_what_is_missing(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'train', 'val'"):
        CityscapesSegmentation(root, "test")
    with pytest.raises(FileNotFoundError, match=r"train is no folder; unpack leftImg8bit_trainvaltest\.zip"):
        CityscapesSegmentation(root, "train")
    (root / "gtFine" / "val" / f"{FRAMES[0]}_gtFine_labelIds.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"frankfurt_000000_000294_gtFine_labelIds\.png is missing"):
        CityscapesSegmentation(root)


def test_an_image_without_its_archive(tmp_path: Path) -> None:
    for kind in ("leftImg8bit", "gtFine"):
        (tmp_path / kind / "val").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match="holds no"):
        CityscapesSegmentation(tmp_path)


def test_training_ids_are_refused(root: Path) -> None:
    """A file of another numbering (34 and more) must not be read as this one."""
    write_labels(root / "gtFine" / "val" / f"{FRAMES[0]}_gtFine_labelIds.png", np.full(IDS.shape, 34))
    with pytest.raises(ValueError, match="holds the label 34"):
        CityscapesSegmentation(root)[0]
