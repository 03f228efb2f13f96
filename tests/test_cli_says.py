"""What the command line says of what it made: random weights, the layer as a number, wherever it is shown or saved."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from captum_ultra.cli import app
from captum_ultra.cli.loading import load
from captum_ultra.insights.contribute import read_text
from captum_ultra.models.class_names import class_names

RANDOM = "scenes-vit (random weights)"


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


@pytest.mark.parametrize(("asked", "saved"), [(None, 6), (-1, 6), (-2, 5), (3, 3)])
def test_the_layer_is_saved_as_a_number_of_blocks(picture: Path, tmp_path: Path, asked: int | None, saved: int) -> None:
    layer = [] if asked is None else ["--layer", asked]
    output = tmp_path / "map.npz"
    assert f"layer {saved}, " in run("explain", picture, "--token", "3,4", *layer, "-o", output).stdout
    with np.load(output) as file:
        assert file["layer"] == saved
    figure = tmp_path / "map.svg"
    run("explain", picture, "--token", "3,4", *layer, "-o", figure)
    assert f"layer {saved}, ULTra" in figure.read_text()


def test_random_weights_are_said(picture: Path, tmp_path: Path) -> None:
    explain = ["explain", picture, "--token", "3,4", "--random-weights", "-o"]
    numbers, figure = tmp_path / "map.npz", tmp_path / "map.svg"
    assert RANDOM in run(*explain, numbers).stdout
    with np.load(numbers) as file:
        assert file["model"] == RANDOM
    run(*explain, figure)
    assert RANDOM in figure.read_text()

    page = tmp_path / "page.html"
    result = run("insights", picture, "--layers", 6, "--no-segmentation", "--random-weights", "-o", page)
    assert RANDOM in result.stdout and RANDOM in page.read_text()

    result = run("segment", picture.parent, "--random-weights", "--layer", -1, "-o", tmp_path / "out")
    assert f"{RANDOM}, layer 6, ULTra" in result.stdout
    assert f"{RANDOM}, layer 6, ULTra" in (tmp_path / "out" / "index.html").read_text()


def test_trained_weights_are_not_called_random(picture: Path, tmp_path: Path) -> None:
    result = run("explain", picture, "--token", "3,4", "-o", tmp_path / "map.svg")
    assert "random" not in result.stdout + (tmp_path / "map.svg").read_text()


def test_classes_keep_their_names_with_random_weights() -> None:
    loaded = load("torchvision:vit_b_32", random_weights=True)
    assert loaded.name == "torchvision:vit_b_32 (random weights)" and class_names(loaded)[0] == "tench"


def test_what_compare_on_a_page_needs(picture: Path, tmp_path: Path) -> None:
    arguments = ["insights", picture, "--layers", 6, "--no-segmentation", "--compare", "-o", tmp_path / "page.html"]
    for few in (["--method", "rollout"], ["--score", "sum"]):
        result = CliRunner().invoke(app, [str(each) for each in (*arguments, *few)])
        assert result.exit_code == 2 and "give --method again" in result.stderr
        run(*arguments, *few, "--method", "ultra", "--method", "residual")


def test_a_mark_at_the_beginning_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "story.txt").write_text("Mara lives in Rome.\n", encoding="utf-8-sig")
    assert read_text(tmp_path / "story.txt") == "Mara lives in Rome."


@pytest.mark.parametrize("command", ["explain --token 1,1", "explain --prompt x", "compare", "insights", "contribute"])
@pytest.mark.parametrize(
    ("place", "words"),
    [("file/map", "'file' is a file, no folder; give another folder"), ("folder", "is a folder; give the name of a")],
)
def test_a_file_that_cannot_be_written_is_told_before_a_model_is_loaded(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, place: str, words: str
) -> None:
    def never(*arguments: Any, **named: Any) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr("captum_ultra.models.loader.load_model", never)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    name, *options = command.split()
    suffix = ".html" if name in ("insights", "contribute") else ".npz"
    (tmp_path / f"folder{suffix}").mkdir()
    given = ["--context", "file", "--summary", "x"] if name == "contribute" else [str(picture)]
    if name == "contribute":
        (tmp_path / "file").write_text("a text")
    result = CliRunner().invoke(app, [name, *given, *options, "-o", place + suffix])
    assert result.exit_code == 2 and words in result.stderr.replace(str(tmp_path) + "/", "")


def test_a_reader_may_stop_early() -> None:
    script = Path(sys.executable).with_name("captum-ultra")
    with subprocess.Popen([script, "models"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""


def test_a_mistake_of_the_program_is_no_mistake_of_the_user(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("captum_ultra.insights.explain.explain_image", lambda *given, **named: None + 1)
    arguments = ["explain", str(picture), "--token", "1,1", "-o", str(tmp_path / "map.png")]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, TypeError) and result.exit_code == 1


def test_a_suffix_may_be_in_capitals(picture: Path, tmp_path: Path) -> None:
    run("explain", picture, "--token", "3,4", "-o", tmp_path / "MAP.NPZ")
    assert np.load(tmp_path / "MAP.NPZ")["token"].tolist() == [3, 4]
    run("compare", picture, "--methods", "rollout", "-o", tmp_path / "SHEET.NPZ")
    assert {path.name for path in tmp_path.iterdir()} == {"in", "MAP.NPZ", "SHEET.NPZ"}
