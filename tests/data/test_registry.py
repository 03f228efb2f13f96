"""Data sets by name: every name leads to its reader; errors list what is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from captum_ultra.data import Scenes
from captum_ultra.data.cityscapes import CityscapesSegmentation
from captum_ultra.data.coco_stuff import CURATED_LIST, CocoStuffSegmentation
from captum_ultra.data.potsdam import PotsdamSegmentation
from captum_ultra.data.potsdam_prepared import PreparedPotsdam
from captum_ultra.data.registry import SEGMENTATION_DATASETS, segmentation_dataset
from captum_ultra.data.scene_segmentation import SceneSegmentation
from captum_ultra.data.voc import VocSegmentation
from tests.data.files import write_image, write_labels
from tests.data.test_potsdam import prepared, write_tile

__all__ = ["prepared"]  # a fixture


def write_trees(root: Path) -> None:
    labels = np.zeros((40, 60))
    voc = root / "voc" / "VOCdevkit" / "VOC2012"
    write_image(voc / "JPEGImages" / "a.jpg", 40, 60)
    write_labels(voc / "SegmentationClass" / "a.png", labels)
    (voc / "ImageSets" / "Segmentation").mkdir(parents=True)
    (voc / "ImageSets" / "Segmentation" / "val.txt").write_text("a")
    coco = root / "coco-stuff"
    write_image(coco / "images" / "val2017" / "a.jpg", 40, 60)
    write_labels(coco / "annotations" / "val2017" / "a.png", labels)
    (coco / "curated" / "val2017").mkdir(parents=True)
    (coco / "curated" / "val2017" / CURATED_LIST).write_text("a")
    write_image(root / "cityscapes" / "leftImg8bit" / "val" / "x" / "a_leftImg8bit.png", 40, 60)
    write_labels(root / "cityscapes" / "gtFine" / "val" / "x" / "a_gtFine_labelIds.png", labels)


def test_files_at_the_size_of_the_protocol(tmp_path: Path) -> None:
    write_trees(tmp_path)
    readers = {"voc": VocSegmentation, "coco-stuff": CocoStuffSegmentation, "cityscapes": CityscapesSegmentation}
    for name, reader in readers.items():
        data = segmentation_dataset(name, tmp_path / name)
        assert isinstance(data, reader)
        assert data[0].image.shape == (3, 320, 320) and data[0].labels.shape == (320, 320)
        assert segmentation_dataset(name, tmp_path / name, size=32)[0].labels.shape == (32, 32)


def test_potsdam_has_two_layouts(tmp_path: Path, prepared: Path) -> None:
    assert isinstance(segmentation_dataset("potsdam", prepared), PreparedPotsdam)
    tiles = tmp_path / "tiles"
    write_tile(tiles, "top_potsdam_2_10", False, 0)
    assert isinstance(segmentation_dataset("potsdam", tiles, "labelled", crop=3), PotsdamSegmentation)
    with pytest.raises(ValueError, match="one: 'labelled'"):
        segmentation_dataset("potsdam", tiles)


def test_scenes() -> None:
    data = segmentation_dataset("scenes", length=3, seed=5, noise=0.1)
    assert isinstance(data, SceneSegmentation) and len(data) == 3
    scene = Scenes(3, 5, noise=0.1)[2]
    assert torch.equal(data[2].image, scene.image) and torch.equal(data[2].labels, scene.labels)
    objects = segmentation_dataset("scenes", size=32, seed=5, instances=True)
    assert torch.equal(objects[1].labels, Scenes(2, 5, 32)[1].instances)
    training = segmentation_dataset("scenes", split="train")
    assert torch.equal(training[0].image, Scenes(1, split="train")[0].image)
    assert len(data.classes) == 1 + max(int(scene.labels.max()) for scene in Scenes(40))


def test_errors_name_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="known are voc, coco-stuff, cityscapes, potsdam, scenes"):
        segmentation_dataset("ade20k")
    assert SEGMENTATION_DATASETS == ("voc", "coco-stuff", "cityscapes", "potsdam", "scenes")
    with pytest.raises(ValueError, match="voc is read from files"):
        segmentation_dataset("voc")
    with pytest.raises(ValueError, match="rendered, not read"):
        segmentation_dataset("scenes", tmp_path)
    with pytest.raises(ValueError, match="'train' and 'val'"):
        segmentation_dataset("scenes", split="test")
    with pytest.raises(TypeError, match="curated"):
        segmentation_dataset("scenes", curated=None)
