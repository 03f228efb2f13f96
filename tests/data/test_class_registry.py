"""Data sets about one class by name: every name leads to its reader; errors list what is known."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captum_ultra.data.cifar import Cifar10, Cifar100
from captum_ultra.data.class_registry import (
    CLASSIFICATION_DATASETS,
    LOCALISATION_DATASETS,
    classification_dataset,
    localisation_dataset,
)
from captum_ultra.data.imagenet import ClassFolders
from captum_ultra.data.imagenet_seg import ImageNetSegmentation
from captum_ultra.data.object_scenes import ObjectScenes
from tests.data.class_files import write_cifar10, write_cifar100, write_imagenet_seg
from tests.data.files import write_image


def test_files(tmp_path: Path) -> None:
    write_cifar100(write_cifar10(tmp_path))
    write_image(tmp_path / "val" / "n01440764" / "a.JPEG")
    readers = {"cifar10": Cifar10, "cifar100": Cifar100, "imagenet": ClassFolders}
    assert {name: type(classification_dataset(name, tmp_path)) for name in readers} == readers
    assert len(classification_dataset("cifar10", tmp_path, "train")) == 20


def test_masks(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    data = localisation_dataset("imagenet-seg", write_imagenet_seg(tmp_path))
    assert isinstance(data, ImageNetSegmentation) and data.classes == ()
    with pytest.raises(ValueError, match="one file without parts"):
        localisation_dataset("imagenet-seg", tmp_path, "val")


def test_scenes() -> None:
    scene = ObjectScenes(3, 5, 32)[2]
    masks, classes = (
        make("scenes", length=3, seed=5, size=32) for make in (localisation_dataset, classification_dataset)
    )
    assert torch.equal(masks[2].image, scene.image) and torch.equal(masks[2].mask, scene.mask)
    assert masks[2].label == classes[2].label == scene.label and masks.names == classes.names
    assert torch.equal(classes[2].image, scene.image) and classes.classes[scene.label] == scene.name
    training = classification_dataset("scenes", split="train")
    assert torch.equal(training[0].image, ObjectScenes(1, split="train")[0].image)
    for data in (masks, classes):
        with pytest.raises(IndexError, match="sample 3 of 3"):
            data[3]


def test_errors_name_what_is_known(tmp_path: Path) -> None:
    assert CLASSIFICATION_DATASETS == ("imagenet", "cifar10", "cifar100", "scenes")
    assert LOCALISATION_DATASETS == ("imagenet-seg", "scenes")
    with pytest.raises(ValueError, match="with masks of objects there are imagenet-seg, scenes"):
        localisation_dataset("imagenet")
    with pytest.raises(ValueError, match="with classes of objects there are imagenet, cifar10, cifar100, scenes"):
        classification_dataset("voc")
    with pytest.raises(ValueError, match="cifar10 is read from files"):
        classification_dataset("cifar10")
    with pytest.raises(ValueError, match="rendered, not read"):
        localisation_dataset("scenes", tmp_path)
    with pytest.raises(ValueError, match="held_out"):
        classification_dataset("scenes", split="test")
