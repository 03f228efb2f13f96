"""Class folders: numbers by the order of names, and what to do about a flat archive."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captum_ultra.data.imagenet import ClassFolders
from tests.data.files import write_image


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name in ("n01443537/b.JPEG", "n01440764/a.JPEG", "n01443537/a.JPEG"):
        write_image(tmp_path / "val" / name)
    (tmp_path / "val" / "n01440764" / "notes.txt").write_text("no image")
    return tmp_path


def test_samples(root: Path) -> None:
    data = ClassFolders(root)
    assert data.classes == ("n01440764", "n01443537")
    assert [(each.name, each.label) for each in data] == [
        ("n01440764/a", 0), ("n01443537/a", 1), ("n01443537/b", 1)
    ]  # fmt: skip
    assert data[0].image.shape == (3, 6, 8) and 0 <= data[0].image.min() < data[0].image.max() <= 1
    assert len(ClassFolders(root / "val", split=None)) == 3


def test_hidden_folders_and_files_are_passed_over(root: Path) -> None:
    for name in (".ipynb_checkpoints/a-checkpoint.JPEG", ".git/b.png", "n01440764/._a.JPEG"):
        write_image(root / "val" / name)
    data = ClassFolders(root)
    assert data.classes == ("n01440764", "n01443537") and [data[0].label, data[2].label] == [0, 1]
    assert data.names == ("n01440764/a", "n01443537/a", "n01443537/b")
    write_image(root / "flat" / ".ipynb_checkpoints" / "a.JPEG")
    with pytest.raises(FileNotFoundError, match="flat holds no images"):
        ClassFolders(root, "flat")


def test_the_transform_gets_the_picture(root: Path) -> None:
    data = ClassFolders(root, transform=lambda image: torch.tensor(image.size))
    assert data[0].image.tolist() == [8, 6]


def test_what_is_missing(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match="train is no folder; expected class folders"):
        ClassFolders(root, "train")
    write_image(root / "flat" / "ILSVRC2012_val_00000001.JPEG")
    with pytest.raises(FileNotFoundError, match="1 images without class folders; sort the images"):
        ClassFolders(root, "flat")
    (root / "val" / "n01443537" / "a.JPEG").write_bytes(b"")
    with pytest.raises(ValueError, match=r"a\.JPEG is damaged"):
        ClassFolders(root)[1]
    with pytest.raises(IndexError, match="sample 3 of 3"):
        ClassFolders(root)[3]
