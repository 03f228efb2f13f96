"""COCO-Stuff: the 27 groups, the curated list, and what is missing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from captum_ultra.data.coco_hierarchy import COARSE_CLASSES, FINE_CLASSES, FINE_TO_COARSE
from captum_ultra.data.coco_stuff import CURATED_LIST, CocoStuffSegmentation
from tests.data.files import write_image, write_labels

NAMES = ("000000000139", "000000000285")
EVERY = np.array([*range(182), 255, 255]).reshape(8, 23)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in NAMES:
        write_image(tmp_path / "images" / "val2017" / f"{name}.jpg", *EVERY.shape)
        write_labels(tmp_path / "annotations" / "val2017" / f"{name}.png", EVERY)
    curated = tmp_path / "curated" / "val2017"
    curated.mkdir(parents=True)
    (curated / CURATED_LIST).write_text(NAMES[1] + "\n")
    return tmp_path


def test_the_groups_partition_the_classes() -> None:
    assert len(FINE_CLASSES) == len(set(FINE_CLASSES)) == len(FINE_TO_COARSE) == 182
    assert len(COARSE_CLASSES) == 27 and set(FINE_TO_COARSE) == set(range(27))
    things, stuff = FINE_TO_COARSE[:91], FINE_TO_COARSE[91:]
    assert set(things) == set(range(12)) and set(stuff) == set(range(12, 27))


def test_numbers_of_the_published_list() -> None:
    """Label ids of the COCO-Stuff list, where 1 is person and 182 is wood; files hold them minus one."""
    published = {
        1: "person", 3: "car", 12: "street sign", 15: "bench", 25: "giraffe", 45: "plate", 62: "chair", 71: "door",
        72: "tv", 91: "hair brush", 92: "banner", 96: "building-other", 106: "clouds", 120: "fog", 124: "grass",
        149: "road", 155: "sea", 157: "sky-other", 158: "skyscraper", 169: "tree", 178: "water-other",
        179: "waterdrops", 182: "wood",
    }  # fmt: skip
    assert {number: FINE_CLASSES[number - 1] for number in published} == published


def test_groups_as_the_published_evaluations_number_them() -> None:
    sizes = [FINE_TO_COARSE.count(group) for group in range(27)]
    assert sizes == [6, 6, 10, 10, 8, 8, 8, 10, 6, 1, 10, 8, 2, 6, 4, 11, 4, 11, 7, 2, 6, 11, 9, 2, 6, 5, 5]
    group = {name: FINE_TO_COARSE[FINE_CLASSES.index(name)] for name in FINE_CLASSES}
    assert [group[name] for name in ("tv", "toaster", "banana", "chair", "book", "cup")] == [0, 1, 2, 3, 4, 5]
    assert [group[name] for name in ("tie", "dog", "bench", "person", "skis", "bus")] == [6, 7, 8, 9, 10, 11]
    stuff = ("ceiling-tile", "carpet", "fruit", "table", "paper", "towel", "wall-brick", "window-blind", "house",
             "road", "tree", "clouds", "rock", "fence", "fog")  # fmt: skip
    assert [group[name] for name in stuff] == list(range(12, 27))


def test_coarse_labels_of_the_curated_images(root: Path) -> None:
    data = CocoStuffSegmentation(root)
    assert data.names == NAMES[1:] and data.classes == COARSE_CLASSES
    assert data[0].labels.flatten().tolist() == [*FINE_TO_COARSE, 255, 255]


def test_fine_labels_of_all_images(root: Path) -> None:
    data = CocoStuffSegmentation(root, curated=None, coarse=False)
    assert data.names == NAMES and data.classes == FINE_CLASSES
    assert data[0].labels.flatten().tolist() == EVERY.flatten().tolist()


def test_hidden_files_are_no_samples(root: Path) -> None:
    write_labels(root / "annotations" / "val2017" / f"._{NAMES[0]}.png", EVERY)
    assert CocoStuffSegmentation(root, curated=None).names == NAMES


def test_what_is_missing(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'train', 'val'"):
        CocoStuffSegmentation(root, "val2017")
    with pytest.raises(FileNotFoundError, match=r"train2017 is no folder; unpack stuffthingmaps_trainval2017\.zip"):
        CocoStuffSegmentation(root, "train")
    with pytest.raises(FileNotFoundError, match=r"other\.txt is missing.*curated=None"):
        CocoStuffSegmentation(root, curated="other.txt")
    (tmp_path / "images" / "val2017" / f"{NAMES[1]}.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=rf"{NAMES[1]}\.jpg is missing"):
        CocoStuffSegmentation(root)


def test_an_empty_label_folder(tmp_path: Path) -> None:
    for kind in ("images", "annotations"):
        (tmp_path / kind / "val2017").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"holds no \*\.png"):
        CocoStuffSegmentation(tmp_path, curated=None)
