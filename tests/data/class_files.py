"""Writes tiny files in the layouts of CIFAR and of ImageNet-Segmentation."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np


class _Python2Pickler(pickle._Pickler):
    """Writes strings as Python 2 did, in which bytes and text were one type: that is what the archives hold."""

    dispatch: ClassVar[dict] = dict(pickle._Pickler.dispatch)

    def save_string(self, value: bytes | str) -> None:
        raw = value.encode("latin1") if isinstance(value, str) else value
        self.write(pickle.BINSTRING + len(raw).to_bytes(4, "little") + raw)
        self.memoize(value)

    dispatch[bytes] = save_string
    dispatch[str] = save_string


def python2_pickle(value: Any) -> bytes:
    """A pickle as Python 2 with the numpy of its time wrote it."""
    file = BytesIO()
    _Python2Pickler(file, protocol=2).dump(value)
    return file.getvalue().replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")


def cifar_pixels(count: int, seed: int) -> np.ndarray:
    """Rows of 3,072 bytes: a red plane, a green one, a blue one."""
    return np.random.default_rng(seed).integers(0, 256, (count, 3072), dtype=np.uint8)


def trusted(reader: str, folder: Path) -> None:
    """Let torchvision take the small files in a folder for those of the archive, whose checksums it compares."""
    from torchvision import datasets
    from torchvision.datasets.utils import calculate_md5

    known = getattr(datasets, reader)
    for listed in ("test_list", "train_list"):
        setattr(known, listed, [[file, calculate_md5(folder / file)] for file, _ in getattr(known, listed)])
    known.meta = {**known.meta, "md5": calculate_md5(folder / known.meta["filename"])}


def write_cifar10(root: Path, labels: Sequence[int] = (3, 8, 8, 0)) -> Path:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True, exist_ok=True)
    names = [b"airplane", b"automobile", b"bird", b"cat", b"deer", b"dog", b"frog", b"horse", b"ship", b"truck"]
    meta = {b"num_cases_per_batch": 10000, b"label_names": names, b"num_vis": 3072}
    (folder / "batches.meta").write_bytes(python2_pickle(meta))
    for seed, name in enumerate(("test_batch", *(f"data_batch_{k}" for k in range(1, 6)))):
        batch = {
            b"batch_label": b"testing batch 1 of 1",
            b"labels": list(labels),
            b"data": cifar_pixels(len(labels), seed),
            b"filenames": [b"image_s_%06d.png" % k for k in range(len(labels))],
        }
        (folder / name).write_bytes(python2_pickle(batch))
    trusted("CIFAR10", folder)
    return root


def write_cifar100(root: Path, labels: Sequence[int] = (49, 99, 0)) -> Path:
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True, exist_ok=True)
    meta = {
        b"fine_label_names": [b"class %d" % k for k in range(100)],
        b"coarse_label_names": [b"group %d" % k for k in range(20)],
    }
    (folder / "meta").write_bytes(python2_pickle(meta))
    for seed, name in enumerate(("test", "train")):
        batch = {
            b"filenames": [b"image_s_%06d.png" % k for k in range(len(labels))],
            b"batch_label": b"testing batch 1 of 1",
            b"fine_labels": list(labels),
            b"coarse_labels": [0] * len(labels),
            b"data": cifar_pixels(len(labels), seed),
        }
        (folder / name).write_bytes(python2_pickle(batch))
    trusted("CIFAR100", folder)
    return root


def imagenet_seg_sample(index: int) -> tuple[np.ndarray, np.ndarray]:
    """An image uint8 [H, W, 3] and its mask uint8 [H, W], of another size for every index."""
    height, width = 12 + 2 * index, 20 - index
    pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[2 : 2 + height // 2, 3 + index : 12] = 1
    return pixels, mask


def write_imagenet_seg(root: Path, count: int = 3) -> Path:
    """``gtsegs_ijcv.mat``: cells of references to images, and of references to cells of references to masks."""
    import h5py

    root.mkdir(parents=True, exist_ok=True)
    with h5py.File(root / "gtsegs_ijcv.mat", "w") as file:
        images = file.create_dataset("value/img", (count, 1), h5py.ref_dtype)
        masks = file.create_dataset("value/gt", (count, 1), h5py.ref_dtype)
        for index in range(count):
            pixels, mask = imagenet_seg_sample(index)
            images[index, 0] = file.create_dataset(f"#refs#/image{index}", data=pixels.transpose(2, 1, 0)).ref
            inner = file.create_dataset(f"#refs#/mask{index}", data=mask.T)
            cell = file.create_dataset(f"#refs#/cell{index}", (1, 1), h5py.ref_dtype)
            cell[0, 0] = inner.ref
            masks[index, 0] = cell.ref
    return root
