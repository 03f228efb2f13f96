"""CIFAR as its archives unpack: planes, labels and names; whatever is missing, damaged or foreign is named."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captum_ultra.data.cifar import Cifar10, Cifar100
from captum_ultra.errors import MissingExtraError
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
    planes = train.pixels.transpose(0, 3, 1, 2).reshape(20, -1)
    assert np.array_equal(planes, np.concatenate([cifar_pixels(4, seed) for seed in range(1, 6)]))
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


class Runs:
    """What is pickled as a call."""

    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


def crashing() -> Any:
    """An array of plain bytes that are pointers to objects, says the state of its type; using it ends Python."""
    state = (3, "|", (np.dtype("O"), (3,)), None, None, 8, 1, 0)
    return Runs(*np.empty(0).__reduce__()[:2], (1, (2,), Runs(np.dtype, ("V8",), state), False, b"A" * 16))


@pytest.mark.parametrize("file", ["batches.meta", "test_batch", "data_batch_3"])
@pytest.mark.parametrize("kind", ["runs", "crashes", "cut", "plain"])
def test_only_the_files_of_the_archive_are_opened(kind: str, file: str, root: Path, tmp_path: Path) -> None:
    path, proof = root / "cifar-10-batches-py" / file, tmp_path / "proof"
    content = {
        "runs": lambda: pickle.dumps({b"data": Runs(os.mkdir, (str(proof),))}),
        "crashes": lambda: pickle.dumps({b"data": crashing()}),
        "cut": lambda: path.read_bytes()[:-1],
        "plain": lambda: python2_pickle({b"data": cifar_pixels(2, 0), b"labels": [0, 1]}),
    }[kind]()
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"{file} is not the file of cifar-10-python\.tar\.gz: its checksum differs"):
        Cifar10(root)
    assert not proof.exists()


def test_without_torchvision(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captum_ultra.data.cifar.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"torchvision is not installed.*captum_ultra\[timm\]"):
        Cifar10(root)
