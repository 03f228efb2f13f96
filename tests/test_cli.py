"""The command line: what it writes and says, and what it answers to bad input."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from captum_ultra.attr.attribution import DEFAULT_SCORE
from captum_ultra.cli import app


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def assert_one_line(result: Any, *words: str) -> None:
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("captum-ultra: ") and not result.stdout
    for word in words:
        assert word in line


def test_demo(tmp_path: Path) -> None:
    result = run("demo", "--output", tmp_path / "new", "--tokens", 2)
    assert result.exit_code == 0, result.output
    with Image.open(tmp_path / "new" / "demo.png") as image:
        assert image.width > 1000
    lines = result.stdout.splitlines()
    titles = ["ULTra, energy score", "rollout", "residual LRP, energy score"]
    assert "ROC-AUC" in lines[0] and re.split(r" {2,}", lines[1].strip()) == titles and lines[4].startswith("mean")
    assert min(map(float, lines[4].split()[1:])) > 0.95 and str(tmp_path / "new" / "demo.png") in lines[5]
    assert "residual LRP" in (tmp_path / "new" / "text.html").read_text()
    with Image.open(tmp_path / "new" / "text.png") as image:
        assert image.width > 500
    assert re.split(r" {2,}", lines[-14]) == titles
    ultra, rollout, residual = map(float, lines[-2].split())
    assert residual > 0.8 > ultra > rollout > 0.3 and str(tmp_path / "new" / "text.html") in lines[-1]


def test_demo_without_transformers_says_what_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    result = run("demo", "--output", tmp_path, "--tokens", 1)
    assert result.exit_code == 0, result.output
    assert "left out" in result.stdout and "captum_ultra[text]" in result.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["demo.png"]


def test_explain_writes_a_figure(picture: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "map.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run("explain", picture, "--token", "3,4", "--layer", 2, "--score", "energy", "-o", output)
    assert result.exit_code == 0, result.output
    assert "token (3, 4) of picture.png, scenes-vit, layer 2, ULTra, energy score" in result.stdout
    with Image.open(output) as image:
        assert image.width > image.height > 100


@pytest.mark.parametrize(
    ("options", "method", "interpolation"),
    [
        ([], "LatentTokenAttribution", "bilinear"),
        (["--interpolation", "bicubic"], "LatentTokenAttribution", "bicubic"),
        (["--method", "residual"], "ResidualLRP", "bilinear"),
    ],
)
def test_explain_writes_the_numbers(
    picture: Path, tmp_path: Path, options: list[str], method: str, interpolation: str
) -> None:
    import captum_ultra
    from captum_ultra.models.loader import load_model

    output = tmp_path / "map.npz"
    assert run("explain", picture, "--token", "3,4", "--layer", 2, "-o", output, *options).exit_code == 0
    loaded = load_model("scenes-vit")
    assert loaded.preprocess is not None
    with Image.open(picture) as image:
        inputs = loaded.preprocess(image)
    expected = getattr(captum_ultra, method)(loaded.model).attribute(
        inputs, token=(3, 4), layer=2, interpolation=interpolation
    )
    with np.load(output) as saved:
        np.testing.assert_allclose(saved["map"], expected[0, 0].numpy(), rtol=1e-4, atol=1e-6 * expected.abs().max())
        assert saved["token"].tolist() == [3, 4] and saved["layer"] == 2 and saved["score"] == DEFAULT_SCORE
        assert saved["method"] == ("residual" if options[-1:] == ["residual"] else "ultra")
        assert saved["model"] == "scenes-vit" and saved["picture"].shape == (*saved["map"].shape, 3)


def test_explain_another_library(picture: Path, tmp_path: Path) -> None:
    for token, name in (("0", "cls.png"), ("9,9", "patch.svg")):
        result = run(
            "explain", picture, "--model", "timm:test_vit", "--random-weights", "--token", token,
            "-o", tmp_path / name,
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["--token", "x"], ["'x'", "ROW,COL"]),
        (["--token", "1,2,3"], ["'1,2,3'", "ROW,COL"]),
        (["--token", "3,999"], ["999"]),
        (["--token", "100000"], ["100000"]),
        (["--layer", "99"], ["99", "layer"]),
        (["--layer", "two"], ["--layer"]),
        (["--score", "beauty"], ["beauty", "sum", "energy"]),
        (["--method", "beauty"], ["'beauty'", "ultra", "rollout"]),
        (["--model", "scenes_vit"], ["scenes-vit"]),
        (["--model", "timm:vit_smal_patch16_224"], ["timm:vit_small_patch16_224"]),
        (["--model", "timm:resnet18", "--random-weights"], ["ResNet"]),
        (["--blocks", "nowhere"], ["nowhere"]),
        (["-o", "map.doc"], [".doc", ".png"]),
        (["--colour", "red"], ["--colour"]),
    ],
)
def test_bad_input_is_one_line(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str], words: list[str]
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    result = run("explain", picture, "--token", "1,1", *changes)
    assert_one_line(result, *words)
    assert not list(Path().iterdir()), "nothing is written"


def test_pictures_that_are_none(tmp_path: Path) -> None:
    assert_one_line(run("explain", tmp_path / "none.png", "--token", "1,1"), "none.png", "no picture")
    assert_one_line(run("explain", tmp_path, "--token", "1,1"), "no image")
    (tmp_path / "text.png").write_text("not a picture")
    assert_one_line(run("explain", tmp_path / "text.png", "--token", "1,1"), "no image")
    Image.new("RGB", (64, 64)).save(tmp_path / "whole.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "whole.png").read_bytes()[:60])
    assert_one_line(run("explain", tmp_path / "cut.png", "--token", "1,1"), "no image")


def test_output_that_cannot_be_written(picture: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert_one_line(run("explain", picture, "--token", "1,1", "-o", tmp_path / "file" / "map.png"), "file")
    assert_one_line(run("demo", "-o", tmp_path / "file"), "file")


def test_text_models_are_told_apart(picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch import nn

    from captum_ultra.models import loader

    text = loader.LoadedModel(nn.Identity(), "hf:words", tokenizer=str.split)
    monkeypatch.setattr(loader, "load_model", lambda name, pretrained: text)
    assert_one_line(run("explain", picture, "--token", "1", "--model", "hf:words"), "hf:words", "reads text")


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny Llama with its tokenizer in a folder, as `load_model` takes it."""
    from tests.attr.text_models import llama, word_level

    folder = tmp_path_factory.mktemp("tiny-llama")
    llama().save_pretrained(folder)
    word_level().save_pretrained(folder)
    return f"hf:{folder}"


@pytest.fixture
def story(tmp_path: Path) -> Path:
    path = tmp_path / "story.txt"
    path.write_text("the cat sat on the mat .\na dog saw Lily\n", encoding="utf-8")
    return path


def contribute(model: str, story: Path, *changes: object) -> Any:
    return run("contribute", "--model", model, "--context", story, "--summary", " the cat sat", *changes)


@pytest.mark.parametrize("name", ["page.html", "figure.png", "figure.svg", "numbers.json", "numbers.safetensors"])
def test_contribute_writes_what_the_suffix_says(language_model: str, story: Path, tmp_path: Path, name: str) -> None:
    import captum_ultra
    from captum_ultra.models.loader import load_model

    output = tmp_path / "out" / name
    result = contribute(language_model, story, "--layer", 2, "--score", "energy", "--separator", r" :\n", "-o", output)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1] == f"story.txt, {language_model}, layer 2, conservative LRP, energy score: {output}"
    assert [file.name for file in output.parent.iterdir()] == [name]
    loaded = load_model(language_model)
    expected: Any = captum_ultra.TokenContribution(loaded.model, loaded.tokenizer).attribute(
        "the cat sat on the mat .\na dog saw Lily", " the cat sat", separator=" :\n", layer=2, score="energy"
    )
    words = sorted(expected.words(), key=lambda word: -word.score)[:10]
    assert [line.split()[1] for line in lines[:-1]] == [repr(word.text) for word in words]
    if name == "numbers.json":
        assert json.loads(output.read_text(encoding="utf-8"))["scores"] == expected.scores.tolist()
    elif name == "numbers.safetensors":
        assert captum_ultra.Contribution.load(output).to_json() == expected.to_json()
    else:
        assert output.stat().st_size > 1000


def test_contribute_by_another_method(language_model: str, story: Path, tmp_path: Path) -> None:
    import captum_ultra
    from captum_ultra.models.loader import load_model

    output = tmp_path / "numbers.json"
    result = contribute(language_model, story, "--method", "rollout", "-o", output)
    assert result.stdout.splitlines()[-1] == f"story.txt, {language_model}, layer 3, rollout: {output}"
    loaded = load_model(language_model)
    method = captum_ultra.TokenContribution(loaded.model, loaded.tokenizer, method="rollout")
    expected: Any = method.attribute("the cat sat on the mat .\na dog saw Lily", " the cat sat")
    assert json.loads(output.read_text(encoding="utf-8")) == json.loads(expected.to_json())


def test_contribute_lists_tokens_on_request(language_model: str, story: Path, tmp_path: Path) -> None:
    result = contribute(language_model, story, "--tokens", "--top", 3, "-o", tmp_path / "page.html")
    assert result.exit_code == 0 and len(result.stdout.splitlines()) == 4
    scores = [float(line.split()[0]) for line in result.stdout.splitlines()[:-1]]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["-o", "map.doc"], [".doc", ".png", ".html", ".json", ".safetensors"]),
        (["--context", "none.txt"], ["none.txt", "cannot be read"]),
        (["--context", "."], ["cannot be read"]),
        (["--context", "empty.txt"], ["empty.txt is empty"]),
        (["--context", "latin.txt"], ["latin.txt is not UTF-8", "byte 3"]),
        (["--summary", " "], ["summary is blank"]),
        (["--score", "beauty"], ["beauty", "sum", "energy"]),
        (["--method", "beauty"], ["'beauty'", "ultra", "rollout"]),
        (["--top", "0"], ["--top"]),
        (["--model", "scenes-vit"], ["'scenes-vit' has no tokenizer", "facts-llama"]),
        (["--model", "facts_lama"], ["unknown model 'facts_lama'"]),
    ],
)
def test_contribute_refuses_in_one_line(
    language_model: str, story: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str],
    words: list[str],
) -> None:  # fmt: skip
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (work / "empty.txt").write_text(" \n")
    (work / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    assert_one_line(contribute(language_model, story, *changes), *words)
    assert {file.name for file in work.iterdir()} == {"empty.txt", "latin.txt"}, "nothing is written"


def test_contribute_refuses_what_the_model_has_not(language_model: str, story: Path, tmp_path: Path) -> None:
    """After the model is loaded, of which transformers shows the progress."""
    result = contribute(language_model, story, "--layer", 9, "-o", tmp_path / "page.html")
    assert result.exit_code == 2 and not result.stdout
    assert result.stderr.splitlines()[-1].startswith("captum-ultra: layer=9 does not exist: with 3 blocks")
    assert not (tmp_path / "page.html").exists()


def test_demo_refuses_impossible_numbers(tmp_path: Path) -> None:
    assert_one_line(run("demo", "-o", tmp_path, "--tokens", 0), "--tokens")
    assert_one_line(run("demo", "-o", tmp_path, "--scene", -1), "--scene")


def test_models_lists_every_source() -> None:
    from captum_ultra.models.loader import available_models

    result = run("models")
    assert result.exit_code == 0
    assert [line.split()[0] for line in result.stdout.splitlines()] == [name for name, _ in available_models()]


def test_version_and_help() -> None:
    from importlib.metadata import version

    assert run("--version").stdout == f"captum-ultra {version('captum_ultra')}\n"
    result = run("--help")
    assert result.exit_code == 0
    for command in ("demo", "explain", "contribute", "models"):
        assert command in result.stdout


def test_an_unknown_command_is_one_line() -> None:
    assert_one_line(run("explane"), "explane")


def test_the_console_script_is_installed(picture: Path, tmp_path: Path) -> None:
    script = Path(sys.executable).with_name("captum-ultra")
    process = subprocess.run(
        [script, "explain", picture, "--token", "999,0", "-o", tmp_path / "map.png"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 2 and "Traceback" not in process.stderr
    assert process.stderr.startswith("captum-ultra: token")
