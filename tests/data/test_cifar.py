"""CIFAR as its archives unpack: planes, labels and names; whatever is missing or damaged is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from captum_ultra.data.cifar import Cifar10, Cifar100
from tests.data.class_files import cifar_pixels, python2_pickle, write_cifar10, write_cifar100


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_cifar100(write_cifar10(tmp_path))


def test_samples(root: Path) -> None:
    data = Cifar10(root)
    assert len(data) == 4 and data.names == ("test-0", "test-1", "test-2", "test-3")
    assert [data.classes[each.label] for each in data] == ["cat", "ship", "ship", "airplane"]
    sample = data[1]
    assert sample.name == "test-1" and sample.label == 8 and sample.image.dtype == torch.float32
    stored = cifar_pixels(4, 0)[1]
    for row, column, channel in ((0, 0, 0), (0, 5, 1), (31, 2, 2), (7, 31, 0)):
        assert float(sample.image[channel, row, column]) == pytest.approx(
            stored[channel * 1024 + row * 32 + column] / 255
        )


def test_splits_and_both_archives(root: Path) -> None:
    train = Cifar10(root, "train")
    assert len(train) == 20 and train.names[-1] == "train-19"
    assert np.array_equal(train.pixels, np.concatenate([cifar_pixels(4, seed) for seed in range(1, 6)]))
    fine = Cifar100(root)
    assert fine.labels == (49, 99, 0) and len(fine.classes) == 100 and fine.classes[49] == "class 49"
    assert len(Cifar100(root, "train")) == 3


def test_the_folder_itself_is_a_root_too(root: Path) -> None:
    assert Cifar10(root / "cifar-10-batches-py").labels == Cifar10(root).labels


def test_the_transform_gets_the_picture(root: Path) -> None:
    assert Cifar10(root, transform=lambda image: torch.tensor(image.size))[0].image.tolist() == [32, 32]


def test_what_is_missing(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="'test', 'train'"):
        Cifar10(root, "val")
    with pytest.raises(FileNotFoundError, match=r"meta is missing.*cifar-10-python\.tar\.gz"):
        Cifar10(tmp_path / "nowhere")
    (root / "cifar-10-batches-py" / "test_batch").unlink()
    with pytest.raises(FileNotFoundError, match="test_batch is missing"):
        Cifar10(root)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ({}, "no entry 'data'"),
        ({b"data": cifar_pixels(2, 0)[:, :3000], b"labels": [0, 1]}, "no images of 3072 bytes"),
        ({b"data": cifar_pixels(2, 0).astype(float), b"labels": [0, 1]}, "no images of 3072 bytes"),
        ({b"data": cifar_pixels(2, 0), b"labels": [0]}, "one label for each of its 2"),
        ({b"data": cifar_pixels(2, 0), b"labels": [0, 10]}, "the label 10; cifar-10-batches-py has 0 to 9"),
        ({b"data": cifar_pixels(2, 0), b"labels": [0, -1]}, "the label -1"),
    ],
    ids=["empty", "short rows", "floats", "labels missing", "label too high", "negative label"],
)
def test_damaged_batches(content: dict, words: str, root: Path) -> None:
    (root / "cifar-10-batches-py" / "test_batch").write_bytes(python2_pickle(content))
    with pytest.raises(ValueError, match=f"test_batch.*{words}"):
        Cifar10(root)


def test_the_names_of_another_data_set(root: Path) -> None:
    (root / "cifar-100-python" / "meta").write_bytes(python2_pickle({b"fine_label_names": [b"one"]}))
    with pytest.raises(ValueError, match="meta does not name 100 classes"):
        Cifar100(root)
