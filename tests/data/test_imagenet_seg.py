"""ImageNet-Segmentation as MATLAB stores it: references, axes turned round; what is damaged is named."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from captum_ultra.data.imagenet_seg import ImageNetSegmentation
from captum_ultra.data.transforms import ResizeCrop
from captum_ultra.errors import MissingExtraError
from tests.data.class_files import imagenet_seg_sample, write_imagenet_seg

h5py = pytest.importorskip("h5py")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_imagenet_seg(tmp_path / "data")


@pytest.mark.parametrize("below", ["", "gtsegs_ijcv.mat"])
def test_samples(root: Path, below: str) -> None:
    data = ImageNetSegmentation(root / below)
    assert data.names == ("imagenet-seg-0", "imagenet-seg-1", "imagenet-seg-2") and len(data) == 3
    for index, sample in enumerate(data):
        pixels, mask = imagenet_seg_sample(index)
        assert sample.name == data.names[index] and sample.label is None
        torch.testing.assert_close(sample.image, torch.from_numpy(pixels).permute(2, 0, 1) / 255)
        assert sample.mask.dtype == torch.bool and sample.mask.tolist() == (mask == 1).tolist()


def test_the_transform_sees_both(root: Path) -> None:
    sample = ImageNetSegmentation(root, ResizeCrop(8))[1]
    assert sample.image.shape == (3, 8, 8) and sample.mask.shape == (8, 8) and sample.mask.any()


def test_an_opened_data_set_goes_to_another_process(root: Path) -> None:
    data = ImageNetSegmentation(root)
    again = pickle.loads(pickle.dumps(data))
    assert torch.equal(again[2].image, data[2].image) and torch.equal(again[2].mask, data[2].mask)


def test_a_row_of_cells_and_masks_without_cells_and_grey_images(tmp_path: Path) -> None:
    path, (pixels, mask) = tmp_path / "other.mat", imagenet_seg_sample(0)
    with h5py.File(path, "w") as file:
        for name, array in (("img", pixels[..., 0].T), ("gt", mask.T)):
            cells = file.create_dataset(f"value/{name}", (1, 1), h5py.ref_dtype)
            cells[0, 0] = file.create_dataset(f"#refs#/{name}", data=array).ref
    sample = ImageNetSegmentation(path)[0]
    assert sample.mask.tolist() == (mask == 1).tolist()
    torch.testing.assert_close(sample.image, torch.from_numpy(pixels[..., :1]).permute(2, 0, 1).expand(3, -1, -1) / 255)


def test_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"gtsegs_ijcv\.mat is missing; give gtsegs_ijcv\.mat"):
        ImageNetSegmentation(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.mat is missing"):
        ImageNetSegmentation(tmp_path / "nowhere.mat")


def test_without_h5py(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captum_ultra.data.imagenet_seg.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"captum_ultra\[imagenet_seg\]"):
        ImageNetSegmentation(root)


def test_other_files(root: Path) -> None:
    path = root / "gtsegs_ijcv.mat"
    with h5py.File(root / "other.mat", "w") as file:
        file["value/img"] = np.zeros(3)
    with pytest.raises(ValueError, match=r"other\.mat holds no cells 'value/img'"):
        ImageNetSegmentation(root / "other.mat")
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match=r"gtsegs_ijcv\.mat is damaged, or no HDF5 file"):
        ImageNetSegmentation(root)


@pytest.mark.parametrize(
    "value", [np.full((20, 12), 2, np.uint8), np.zeros((19, 12), np.uint8)], ids=["values", "size"]
)
def test_masks_that_do_not_fit(value: np.ndarray, root: Path) -> None:
    with h5py.File(root / "gtsegs_ijcv.mat", "a") as file:
        file["value/gt"][0, 0] = file.create_dataset("#refs#/wrong", data=value).ref
    data = ImageNetSegmentation(root)
    with pytest.raises(ValueError, match=r"mask 0 has values .* expected 0 and 1 in \(20, 12\)"):
        data[0]
    assert data[1].mask.any()


def test_references_that_lead_nowhere(root: Path) -> None:
    with h5py.File(root / "gtsegs_ijcv.mat", "a") as file:
        circle = file.create_dataset("#refs#/circle", (1, 1), h5py.ref_dtype)
        circle[0, 0] = circle.ref
        file["value/img"][1, 0] = circle.ref
        file["value/gt"][2, 0] = h5py.Reference()
    data = ImageNetSegmentation(root)
    with pytest.raises(ValueError, match="sample 1 of 'value/img' leads to no array"):
        data[1]
    with pytest.raises(ValueError, match="sample 2 of 'value/gt' is damaged"):
        data[2]


@pytest.mark.parametrize("index", [3, -1])
def test_indices_past_the_ends(index: int, root: Path) -> None:
    with pytest.raises(IndexError, match=f"sample {index} of 3"):
        ImageNetSegmentation(root)[index]
