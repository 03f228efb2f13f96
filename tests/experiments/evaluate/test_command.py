"""``captum-ultra evaluate``: what it prints, and what it answers to bad input."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from captum_ultra.cli import app
from captum_ultra.experiments.evaluate import Options
from captum_ultra.experiments.evaluate.inputs import load_subject
from captum_ultra.models.loader import LoadedModel
from tests.experiments.evaluate.small import ULTRA, small_model


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of 64 tokens in place of the shipped one."""
    model = small_model().model
    monkeypatch.setattr("captum_ultra.models.vit.scenes_vit", lambda pretrained=True: model)


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["evaluate", *(str(argument) for argument in arguments)])


@pytest.mark.parametrize("study", ULTRA)
def test_every_study_runs_on_scenes(study: str, tmp_path: Path) -> None:
    more = ["--values", "0.5"] if study == "ultra-perturbation" else []
    result = invoke(study, "--data", "scenes", "--images", 4, *more, "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith((tmp_path / "report.txt").read_text())
    assert str(tmp_path / "report.json") in result.stdout
    assert "4/4" in result.stderr  # the progress bar


def test_report_holds_everything(tmp_path: Path) -> None:
    result = invoke("ultra-segmentation", "--images", 2, "--k", 3, "--noise", 0.25, "--seed", 5, "-o", tmp_path)
    assert "k = 3" in result.stdout and "ORACLE" not in result.stdout and "noise 0.25" in result.stdout
    report = json.loads((tmp_path / "report.json").read_text())
    assert {"study", "protocol", "options", "date", "versions", "images", "rows", "results"} <= set(report)
    assert report["options"]["k"] == 3 and report["options"]["seed"] == 5 and report["images"] == 2
    assert report["versions"]["torch"] == version("torch")
    assert list(report["results"]) == ["scene-5-0", "scene-5-1"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["ultra-colours"], ["'ultra-colours' is unknown", "ultra-zeta"]),
        (["ultra-tau", "--data", "ade20k"], ["'ade20k' is unknown", "coco-stuff"]),
        (["ultra-tau", "--data", "voc"], ["give the folder"]),
        (["ultra-tau", "--data", "voc", "--root", "nowhere"], ["nowhere", "VOCtrainval_11-May-2012.tar"]),
        (["ultra-tau", "--root", "nowhere"], ["scenes are rendered"]),
        (["ultra-tau", "--model", "scenes-vti"], ["unknown model 'scenes-vti'", "scenes-vit"]),
        (["ultra-tau", "--score", "max"], ["'max' is unknown", "energy"]),
        (["ultra-tau", "--values", "0.2,x"], ["'0.2,x'"]),
        (["ultra-tau", "--values", "0.2,1.5"], ["between 0 and 1"]),
        (["ultra-tau", "--values", "0.5,0.2"], ["must increase"]),
        (["ultra-tau", "--zeta", "0.4"], ["leave k and zeta away"]),
        (["ultra-segmentation", "--values", "1"], ["sweeps nothing"]),
        (["ultra-segmentation", "--k", "3", "--zeta", "0.4"], ["not both"]),
        (["ultra-segmentation", "--layer", "0"], ["layer 0"]),
        (["ultra-segmentation", "--layer", "7"], ["7"]),
        (["ultra-segmentation", "--images", "0"], ["at least one"]),
        (["ultra-segmentation", "--data", "voc", "--noise", "0.1"], ["scenes only"]),
        (["ultra-segmentation", "--seed", "-1"], ["seed is -1"]),
        (["ultra-segmentation", "--split", "test"], ["'test'"]),
        (["ultra-segmentation", "--device", "abacus"], ["device 'abacus' is unknown"]),
        (["ultra-layers", "--layer", "1"], ["values=(1,)"]),
        (["ultra-layers", "--values", "1.5"], ["number of blocks"]),
        (["ultra-layers", "--values", "3"], ["layer 3 does not exist"]),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    arguments: list[str], words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = invoke(*arguments, "-o", tmp_path / "out")
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("captum-ultra: ") and not result.stdout
    for word in words:
        assert word in line
    assert not (tmp_path / "out").exists()


def test_a_model_that_reads_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = LoadedModel(torch.nn.Identity(), "bert", tokenizer=str)
    monkeypatch.setattr("captum_ultra.experiments.evaluate.inputs.load_model", lambda *_, **__: text)
    result = invoke("ultra-tau", "-o", tmp_path)
    assert result.exit_code == 2 and "'bert' reads text, not images" in result.stderr


def test_untrained_weights_are_the_same_in_every_run() -> None:
    options = Options("ultra-tau", model="timm:test_vit", random_weights=True)
    before = torch.random.get_rng_state()
    first, again = (load_subject(options).model.state_dict() for _ in range(2))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert torch.equal(torch.random.get_rng_state(), before)
