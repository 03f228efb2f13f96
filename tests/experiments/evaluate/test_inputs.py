"""What the model sees is the whole labelled square; which images are taken; files of a data set."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from captum_ultra.data.voc import VocSegmentation
from captum_ultra.experiments.evaluate.inputs import ModelInput, chosen_images
from captum_ultra.experiments.evaluate.ultra.options import Options
from captum_ultra.models.loader import LoadedModel
from tests.data.files import write_image, write_labels
from tests.experiments.evaluate.small import SIDE, run, small_model


def test_images_of_the_models_size_are_normalised_only() -> None:
    loaded, image = small_model(), torch.rand(3, SIDE, SIDE)
    torch.testing.assert_close(ModelInput.of(loaded)(image)[0], loaded.model.preprocess(image))


def test_larger_images_are_resized_whole() -> None:
    """The left half white, the right half black, at any size: no crop moves the border."""
    image = torch.zeros(3, 80, 80)
    image[..., :40] = 1
    seen = ModelInput(side=16, mean=(0.5,) * 3, std=(0.5,) * 3)(image)
    assert seen.shape == (1, 3, 16, 16)
    assert bool((seen[..., :7] > 0.9).all()) and bool((seen[..., 9:] < -0.9).all())
    assert float(seen.max()) <= 1 and float(seen.min()) >= -1  # bicubic overshoot is cut off


def test_models_without_images_or_squares() -> None:
    with pytest.raises(ValueError, match="'bert' reads text, not images"):
        ModelInput.of(LoadedModel(nn.Identity(), "bert", tokenizer=str))
    wide = LoadedModel(nn.Identity(), "wide", preprocess=lambda image: torch.zeros(1, 3, 16, 32))
    with pytest.raises(ValueError, match="16 x 32 pixels"):
        ModelInput.of(wide)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder, names = tmp_path / "VOCdevkit" / "VOC2012", [f"2007_{number:06}" for number in range(6)]
    labels = np.zeros((48, 64), dtype=np.uint8)
    labels[:, 24:40], labels[20:30], labels[:4] = 7, 15, 255
    for number, name in enumerate(names):
        write_image(folder / "JPEGImages" / f"{name}.jpg", 48, 64, seed=number)
        write_labels(folder / "SegmentationClass" / f"{name}.png", np.roll(labels, number, 1), palette=True)
    lists = folder / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    for split, part in (("val", names[:4]), ("train", names[4:])):
        (lists / f"{split}.txt").write_text("\n".join(part) + "\n")
    return tmp_path


@pytest.mark.parametrize("study", ["ultra-segmentation", "ultra-object-selection"])
def test_voc(study: str, root: Path, tmp_path: Path) -> None:
    report = run(study, tmp_path / "out", root, data="voc", images=None, score="w")
    assert list(report.results) == [f"2007_{number:06}" for number in range(4)]
    assert {row.name for row in report.rows} == {"ULTra_S", "ULTra_W"}
    assert "voc, split val, 4 of 4 images" in str(report)


def test_some_images_are_a_random_choice_that_grows(root: Path) -> None:
    data = VocSegmentation(root, "val")
    options = Options("ultra-tau", "voc")
    chosen = [chosen_images(options, data.names, count) for count in (1, 2, 3, 4, 9, None)]
    assert all(set(fewer) <= set(more) for fewer, more in pairwise(chosen))
    assert [len(each) for each in chosen] == [1, 2, 3, 4, 4, 4]
    of_seeds = {tuple(chosen_images(Options("ultra-tau", "voc", seed=seed), data.names, 2)) for seed in range(20)}
    assert len(of_seeds) > 3
