"""``captum-ultra evaluate tokentm-...``: what it prints, and what it answers to bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from captum_ultra.cli import app
from captum_ultra.models.loader import LoadedModel
from tests.data.class_files import write_cifar10, write_imagenet_seg
from tests.data.files import write_image
from tests.experiments.evaluate.token_tm.small import SIDE, small_classifier


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of 64 patches in place of the shipped one."""
    model = small_classifier().model
    monkeypatch.setattr("captum_ultra.models.vit_classifier.scenes_classifier", lambda pretrained=True: model)


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)])


@pytest.mark.parametrize("study", ["localization", "accuracy", "probability", "ablation"])
def test_every_study_runs_on_scenes(study: str, tmp_path: Path) -> None:
    methods = [] if study == "ablation" else ["--methods", "gae,token_tm"]
    result = invoke(f"tokentm-{study}", "--data", "scenes", "--images", 3, *methods, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith((tmp_path / "report.txt").read_text())
    assert "scenes, 3 of 3 images; scenes-classifier" in result.stdout and "random map" in result.stdout
    assert "3/3" in result.stderr  # the progress bar


def test_report_holds_everything(tmp_path: Path) -> None:
    arguments = ("--images", 2, "--seed", 5, "--methods", "rollout", "--explain", "target", "-o", tmp_path)
    assert "the target class;" in invoke("tokentm-localization", *arguments).stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["options"]["methods"] == ["rollout"] and report["options"]["explained"] == ["target"]
    assert list(report["results"]) == ["object-scene-5-0", "object-scene-5-1"]
    assert set(report["results"]["object-scene-5-0"]["target"]) == {"rollout", "random map"}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["tokentm-colours"], ["'tokentm-colours' is unknown", "tokentm-ablation"]),
        (["tokentm-localization", "--data", "imagenet"], ["no data set 'imagenet'", "imagenet-seg, scenes"]),
        (["tokentm-accuracy", "--data", "imagenet-seg"], ["'imagenet-seg'", "cifar10"]),
        (["tokentm-accuracy", "--data", "cifar10"], ["give the folder"]),
        (["tokentm-accuracy", "--data", "cifar10", "--root", "nowhere"], ["nowhere", "cifar-10-python.tar.gz"]),
        (["tokentm-accuracy", "--root", "nowhere"], ["scenes are rendered"]),
        (["tokentm-accuracy", "--split", "test"], ["'test'", "held_out"]),
        (["tokentm-accuracy", "--methods", "gae,lime"], ["'lime' is unknown", "token_tm"]),
        (["tokentm-accuracy", "--methods", "gae,gae"], ["name each once"]),
        (["tokentm-accuracy", "--methods", ","], ["name each once"]),
        (["tokentm-accuracy", "--explain", "second"], ["'second'", "'target'"]),
        (["tokentm-ablation", "--methods", "gae"], ["leave methods away"]),
        (["tokentm-accuracy", "--score", "energy"], ["tokentm-accuracy has no --score"]),
        (["tokentm-accuracy", "--train-k", "3"], ["has no --train-images and --train-k"]),
        (["ultra-tau", "--methods", "gae"], ["ultra-tau has no --methods"]),
        (["ultra-tau", "--explain", "both"], ["ultra-tau has no --explain"]),
        (["tokentm-accuracy", "--images", "0"], ["at least one"]),
        (["tokentm-accuracy", "--seed", "-1"], ["seed is -1"]),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(tmp_path, arguments, words)


def test_models_without_the_classes_of_the_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cifar = ["tokentm-accuracy", "--data", "cifar10", "--root", str(write_cifar10(tmp_path))]
    refused(tmp_path, cifar, ["cifar10 has 10 classes, but scenes-classifier gives 6 scores"])
    write_image(tmp_path / "val" / "n01440764" / "a.JPEG")
    some = ["tokentm-probability", "--data", "imagenet", "--root", str(tmp_path)]
    refused(tmp_path, some, ["imagenet has 1 classes, but scenes-classifier gives 6"])


def test_headless_models(tmp_path: Path) -> None:
    refused(tmp_path, ["tokentm-accuracy", "--model", "scenes-vit"], ["VisionTransformer"])


def test_masks_without_classes(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    some = ["--data", "imagenet-seg", "--root", str(write_imagenet_seg(tmp_path))]
    refused(tmp_path, ["tokentm-localization", *some, "--explain", "target"], ["imagenet-seg tells no classes"])


def test_a_method_that_cannot_explain_the_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Pooled(torch.nn.Module):
        """No attention at all."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3)).repeat(1, 2)

    loaded = LoadedModel(Pooled(), "pooled", lambda image: torch.zeros(1, 3, SIDE, SIDE))
    assert isinstance(loaded.preprocess(Image.new("RGB", (8, 8))), torch.Tensor)
    monkeypatch.setattr("captum_ultra.experiments.evaluate.inputs.load_model", lambda *_, **__: loaded)
    refused(tmp_path, ["tokentm-localization"], ["Pooled"])


def refused(tmp_path: Path, arguments: list[str], words: list[str]) -> None:
    result = invoke(*arguments, "-o", tmp_path / "out")
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("captum-ultra: ") and not result.stdout
    for word in words:
        assert word in line
    assert not (tmp_path / "out").exists()
