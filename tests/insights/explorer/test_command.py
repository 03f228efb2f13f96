"""``captum-ultra insights``: what it writes, and what it answers to bad input before a model is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import captum_ultra.models.loader as loader
from captum_ultra.cli import app
from captum_ultra.models.vit import VisionTransformer, ViTConfig


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["insights", *(str(argument) for argument in arguments)])


@pytest.fixture
def files(tmp_path: Path) -> Path:
    Image.new("RGB", (16, 16), "red").save(tmp_path / "picture.png")
    (tmp_path / "context.txt").write_text("Mara lives in Rome.\n")
    (tmp_path / "summary.txt").write_text("Mara is in Italy.\n")
    return tmp_path


def test_a_picture(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load(name: str, *, pretrained: bool = True) -> loader.LoadedModel:
        model = VisionTransformer(ViTConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
        return loader.LoadedModel(model, name, lambda picture: torch.randn(1, 3, 16, 16))

    monkeypatch.setattr(loader, "load_model", load)
    page = files / "new" / "page.html"
    found = run(files / "picture.png", "--model", "one", "--model", "two", "--layers", "1,-1", "--compare", "-o", page)
    assert found.exit_code == 0, found.output
    html = page.read_text()
    assert "picture.png" in html and '"name": "one"' in html and '"name": "two"' in html and '"layers": [1, 2]' in html
    assert found.stdout.strip() == f"picture.png, one, two: {page}"


def test_a_text_and_a_summary_by_several_methods(files: Path) -> None:
    pytest.importorskip("transformers")
    methods = ["--method", "residual", "--method", "rollout", "--compare"]
    found = run(files / "context.txt", files / "summary.txt", "--layers", "4", *methods, "-o", files / "page.html")
    assert found.exit_code == 0, found.output
    html = (files / "page.html").read_text()
    labels = ["residual LRP, sum score", "residual LRP, energy score", "rollout"]
    assert "Italy" in html and re.findall(r'"label": "([^"]*)", "signed"', html) == labels
    assert len(re.findall(r'{"model": 0, "method": \d}', html)) == 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["picture.png", "-o", "page.pdf"], "ends in .html"),
        (["picture.png", "--layers", "one"], "no list of numbers"),
        (["picture.png", "--compare", "--score", "sum"], "two methods or scores"),
        (["picture.png", "--method", "beauty"], "'beauty' is unknown; known are ultra"),
        (["picture.png", "--method", "rollout", "--method", "rollout"], "each of them once"),
        (["picture.png", "context.txt"], "one picture"),
        (["context.txt", "context.txt", "context.txt"], "3 files"),
        (["none.png"], "no picture"),
        (["none.txt"], "cannot be read"),
        ([], "Missing argument"),
    ],
)
def test_bad_input_is_told_in_one_line_before_a_model_is_loaded(
    files: Path, arguments: list[str], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(files)
    monkeypatch.setattr(loader, "load_model", None)
    found = run(*arguments)
    assert found.exit_code == 2, found.output
    (line,) = found.stderr.splitlines()
    assert line.startswith("captum-ultra: ") and words in line


def test_a_model_of_the_wrong_kind(files: Path) -> None:
    pytest.importorskip("transformers")
    found = run(files / "picture.png", "--model", "facts-llama", "-o", files / "page.html")
    assert found.exit_code == 2 and "reads text" in found.stderr
