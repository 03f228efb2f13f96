"""Potsdam-3: crops of the official tiles and of the prepared files; six classes become three."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat

from captum_ultra.data.potsdam import POTSDAM3_CLASSES, PotsdamSegmentation
from captum_ultra.data.potsdam_prepared import PreparedPotsdam
from captum_ultra.errors import MissingExtraError
from tests.data.files import write_image

COLOURS = {"road": (255, 255, 255), "building": (0, 0, 255), "low": (0, 255, 255), "tree": (0, 255, 0),
           "car": (255, 255, 0), "clutter": (255, 0, 0)}  # fmt: skip
MERGED = {"road": 0, "car": 0, "building": 1, "clutter": 1, "low": 2, "tree": 2}
CROP, SIDE = 3, 2  # tiny: tiles of 2 x 2 crops of 3 pixels at half resolution


def write_tile(root: Path, name: str, infrared: bool, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A tile; returns its pixels and the names of its classes at full resolution."""
    full = 2 * CROP * SIDE
    rng = np.random.default_rng(seed)
    channels = 4 if infrared else 3
    pixels = rng.integers(0, 256, (full, full, channels), dtype=np.uint8)
    folder, suffix = ("4_Ortho_RGBIR", "RGBIR") if infrared else ("2_Ortho_RGB", "RGB")
    (root / folder).mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(root / folder / f"{name}_{suffix}.tif")
    classes = rng.choice(list(COLOURS), (full, full))
    colours = np.array([[COLOURS[each] for each in row] for row in classes], dtype=np.uint8)
    (root / "5_Labels_for_participants").mkdir(exist_ok=True)
    Image.fromarray(colours).save(root / "5_Labels_for_participants" / f"{name}_label.tif")
    return pixels, classes


@pytest.mark.parametrize("infrared", [False, True])
def test_crops_of_the_tiles(tmp_path: Path, infrared: bool) -> None:
    write_tile(tmp_path, "top_potsdam_2_10", infrared, 0)
    pixels, classes = write_tile(tmp_path, "top_potsdam_2_9", infrared, 1)
    data = PotsdamSegmentation(tmp_path, crop=CROP)
    assert len(data) == 2 * SIDE**2 and data.classes == POTSDAM3_CLASSES
    assert data.names[:3] == ("top_potsdam_2_9_0_0", "top_potsdam_2_9_0_1", "top_potsdam_2_9_1_0")
    sample = data[2]
    top, left = 2 * CROP, 0
    block = pixels[top : top + 2 * CROP, left : left + 2 * CROP, :3].astype(np.float64)
    mean = block.reshape(CROP, 2, CROP, 2, 3).mean((1, 3)) / 255
    torch.testing.assert_close(sample.image.permute(1, 2, 0).double(), torch.from_numpy(mean), rtol=0, atol=0.6 / 255)
    expected = [[MERGED[each] for each in row[left : left + 2 * CROP : 2]] for row in classes[top : top + 2 * CROP : 2]]
    assert sample.labels.tolist() == expected


def test_any_order_gives_the_same_samples(tmp_path: Path) -> None:
    for number in (10, 11):
        write_tile(tmp_path, f"top_potsdam_2_{number}", False, number)
    data, other = PotsdamSegmentation(tmp_path, crop=CROP), PotsdamSegmentation(tmp_path, crop=CROP)
    forwards = [data[index] for index in range(len(data))]
    for index in (7, 0, 4, 3):
        assert torch.equal(other[index].image, forwards[index].image)
        assert torch.equal(other[index].labels, forwards[index].labels)


def test_six_classes(tmp_path: Path) -> None:
    _, classes = write_tile(tmp_path, "top_potsdam_2_10", False, 0)
    data = PotsdamSegmentation(tmp_path, merged=False, crop=CROP)
    names = list(COLOURS)
    assert data[0].labels.tolist() == [
        [names.index(each) for each in row[: 2 * CROP : 2]] for row in classes[: 2 * CROP : 2]
    ]


def test_strange_colours(tmp_path: Path) -> None:
    write_tile(tmp_path, "top_potsdam_2_10", False, 0)
    path = tmp_path / "5_Labels_for_participants" / "top_potsdam_2_10_label.tif"
    colours = np.array(Image.open(path))
    colours[0, 0] = (254, 255, 0)
    Image.fromarray(colours).save(path)
    with pytest.raises(ValueError, match=r"label\.tif: 1 of 36 pixels .*\(254, 255, 0\)"):
        PotsdamSegmentation(tmp_path, crop=CROP)[0]
    labels = PotsdamSegmentation(tmp_path, crop=CROP, unknown="ignore")[0].labels
    assert labels[0, 0] == 255 and (labels.flatten()[1:] != 255).all()


def test_what_is_missing_or_wrong(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="lacks 5_Labels_for_participants or 5_Labels_all"):
        PotsdamSegmentation(tmp_path)
    write_tile(tmp_path, "top_potsdam_2_10", False, 0)
    write_tile(tmp_path, "top_potsdam_2_11", False, 0)
    with pytest.raises(ValueError, match="'raise' or 'ignore'"):
        PotsdamSegmentation(tmp_path, unknown="guess")
    image = tmp_path / "2_Ortho_RGB" / "top_potsdam_2_11_RGB.tif"
    image.write_bytes(image.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"top_potsdam_2_11_RGB\.tif is damaged"):
        PotsdamSegmentation(tmp_path, crop=CROP)[SIDE**2]
    image.unlink()
    with pytest.raises(FileNotFoundError, match=r"top_potsdam_2_11_RGB\.tif is missing \(1 of 2 tiles\)"):
        PotsdamSegmentation(tmp_path)


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    for name in ("12", "7"):
        rng = np.random.default_rng(int(name))
        for folder, key, values in (
            ("imgs", "img", rng.integers(0, 256, (4, 4, 4), dtype=np.uint8)),
            ("gt", "gt", np.arange(16, dtype=np.int32).reshape(4, 4) % 6),
        ):
            (tmp_path / folder).mkdir(exist_ok=True)
            savemat(tmp_path / folder / f"{name}.mat", {key: values})
    (tmp_path / "labelled_test.txt").write_text("12\n7\n")
    return tmp_path


def test_prepared_crops(prepared: Path) -> None:
    data = PreparedPotsdam(prepared)
    assert data.names == ("12", "7") and data.classes == POTSDAM3_CLASSES
    assert data[0].labels.flatten().tolist() == [(0, 1, 2, 2, 0, 1)[n % 6] for n in range(16)]
    pixels = np.random.default_rng(7).integers(0, 256, (4, 4, 4), dtype=np.uint8)
    torch.testing.assert_close(data[1].image, torch.from_numpy(pixels[..., :3].copy()).permute(2, 0, 1) / 255)
    assert PreparedPotsdam(prepared, merged=False)[0].labels.flatten().tolist() == [n % 6 for n in range(16)]


def test_damaged_and_missing_prepared_files(prepared: Path) -> None:
    savemat(prepared / "gt" / "12.mat", {"gt": np.full((4, 4), 6)})
    with pytest.raises(ValueError, match=r"gt/12\.mat holds labels outside 0 \.\. 5"):
        PreparedPotsdam(prepared)[0]
    savemat(prepared / "gt" / "12.mat", {"other": np.zeros((4, 4))})
    with pytest.raises(ValueError, match="holds no array 'gt'"):
        PreparedPotsdam(prepared)[0]
    path = prepared / "imgs" / "7.mat"
    for damaged in (b"", b"no matlab file at all, but long enough to have a header" * 5, path.read_bytes()[:-20]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"imgs/7\.mat is damaged"):
            PreparedPotsdam(prepared)[1]
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"7\.mat is missing \(1 of 4 files\)"):
        PreparedPotsdam(prepared)
    with pytest.raises(FileNotFoundError, match=r"labelled_train\.txt is missing"):
        PreparedPotsdam(prepared, "train")
    with pytest.raises(ValueError, match="'train', 'val'"):
        PreparedPotsdam(prepared, "test")


def test_a_missing_library_is_named(prepared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captum_ultra.data.potsdam_prepared.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"captum_ultra\[segmentation\]"):
        PreparedPotsdam(prepared)


def test_an_image_of_another_size(prepared: Path) -> None:
    savemat(prepared / "imgs" / "12.mat", {"img": np.zeros((5, 4, 4), dtype=np.uint8)})
    with pytest.raises(ValueError, match="of the same size"):
        PreparedPotsdam(prepared)[0]


def test_tiles_of_two_sizes(tmp_path: Path) -> None:
    write_tile(tmp_path, "top_potsdam_2_10", False, 0)
    write_image(tmp_path / "2_Ortho_RGB" / "top_potsdam_2_10_RGB.tif", 8, 8)
    with pytest.raises(ValueError, match=r"\(8, 8\) pixels"):
        PotsdamSegmentation(tmp_path, crop=CROP)[0]
