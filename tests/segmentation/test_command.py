"""``captum-ultra segment``: what it writes and says, and what it answers to bad input."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from captum_ultra.cli import app
from captum_ultra.insights.segment_folder import KINDS, find_pictures, write_labels
from captum_ultra.models import loader
from captum_ultra.models.vit import VisionTransformer, ViTConfig


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model of 64 tokens in place of the shipped one: quick, and everything else is as it is."""
    torch.manual_seed(0)
    model = VisionTransformer(ViTConfig(image_size=32, dim=16, depth=2, heads=2)).eval()
    monkeypatch.setattr("captum_ultra.models.vit.scenes_vit", lambda pretrained=True: model)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["segment", *(str(argument) for argument in arguments)])


def draw(path: Path, seed: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def written(folder: Path) -> list[str]:
    return sorted(each.relative_to(folder).as_posix() for each in folder.rglob("*") if each.is_file())


def assert_one_line(result: Any, *words: str) -> None:
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("captum-ultra: ") and not result.stdout
    for word in words:
        assert word in line


def test_a_folder_becomes_labels_overlays_and_a_page(tmp_path: Path) -> None:
    draw(tmp_path / "in" / "one.jpg")
    draw(tmp_path / "in" / "sub & more" / "one.jpg", seed=1)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    draw(tmp_path / "in" / ".hidden" / "two.png")
    result = run(tmp_path / "in", "--score", "energy", "--k", 3, "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "2 of 2 pictures" in result.stdout and "k = 3" in result.stdout
    names = ("one.png", "sub & more/one.png")
    assert written(tmp_path / "out") == sorted(["index.html", *(f"{kind}/{name}" for kind in KINDS for name in names)])
    page = (tmp_path / "out" / "index.html").read_text()
    links = {unquote(link.replace("&amp;", "&")) for link in re.findall(r'(?:href|src)="([^"]*)"', page)}
    assert links == {f"{kind}/{name}" for kind in KINDS for name in names}
    assert "sub &amp; more" in page and "k = 3" in page


@pytest.mark.parametrize(("method", "title"), [("ultra", "ULTra, sum score"), ("rollout", "rollout")])
def test_the_labels_are_those_of_python(tmp_path: Path, method: str, title: str) -> None:
    from captum_ultra.segmentation import LatentTokenSegmenter

    picture = draw(tmp_path / "one.png")
    result = run(picture, "--method", method, "--threshold", 0.02, "--layer", 1, "-o", tmp_path / "out")
    assert result.stdout.startswith(f"scenes-vit, layer 1, {title}, cut at distance 0.02: 1 of 1 pictures")
    loaded = loader.load_model("scenes-vit")
    assert loaded.preprocess is not None
    with Image.open(picture) as image:
        inputs = loaded.preprocess(image)
    expected = LatentTokenSegmenter(loaded.model, 1, threshold=0.02, method=method).segment(inputs).labels[0]
    with Image.open(tmp_path / "out" / "labels" / "one.png") as image:
        assert image.mode == "P" and np.array_equal(np.asarray(image), expected.numpy())
        assert len({tuple(color) for color in np.asarray(image.convert("RGB")).reshape(-1, 3).tolist()}) == min(
            24, int(expected.max()) + 1
        )


def test_names_do_not_collide(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.jpg.bmp", "b.png", "sub/a.png", "sub/b.tif"):
        draw(tmp_path / name)
    found = {file.relative_to(tmp_path).as_posix(): name for file, name in find_pictures(tmp_path)}
    assert found == {
        "a.png": "a.png.png", "a.jpg": "a.jpg.png", "a.jpg.bmp": "a.jpg.bmp.png", "b.png": "b.png.png",
        "sub/a.png": "sub/a.png", "sub/b.tif": "sub/b.png",
    }  # fmt: skip


def test_earlier_results_are_not_segmented(tmp_path: Path) -> None:
    draw(tmp_path / "one.png")
    for _ in range(2):
        result = run(tmp_path, "--k", 2, "-o", tmp_path / "out")
        assert result.exit_code == 0 and "1 of 1 pictures" in result.stdout


def test_results_beside_the_pictures_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    own = draw(tmp_path / "pictures" / "one.png").read_bytes()
    for folder, output in (("pictures", "."), (".", "."), ("pictures", "pictures")):
        assert_one_line(run(folder, "--k", 2, "-o", output), "holds the pictures themselves", "give a folder")
    assert_one_line(run("pictures/one.png", "--k", 2, "-o", "."), "would be overwritten", "another folder")
    assert written(tmp_path) == ["pictures/one.png"] and Path("pictures/one.png").read_bytes() == own
    draw(tmp_path / "two.png")
    assert run("two.png", "--k", 2, "-o", "out").exit_code == run("pictures", "--k", 2, "-o", "other").exit_code == 0


def test_results_of_other_pictures_are_not_mixed_in(tmp_path: Path) -> None:
    for name in ("one", "two"):
        draw(tmp_path / "in" / f"{name}.png")
    assert run(tmp_path / "in", "--k", 2, "-o", tmp_path / "out").exit_code == 0
    (tmp_path / "in" / "two.png").unlink()
    before = written(tmp_path / "out")
    result = run(tmp_path / "in", "--k", 3, "-o", tmp_path / "out")
    assert_one_line(result, "two.png' is no result of these pictures", "delete it, or give another")
    assert written(tmp_path / "out") == before
    for kind in KINDS:
        (tmp_path / "out" / kind / "two.png").unlink()
    assert run(tmp_path / "in", "--k", 3, "-o", tmp_path / "out").exit_code == 0
    draw(tmp_path / "in" / "three.png")
    (tmp_path / "in" / "one.png").write_text("no longer a picture")
    assert run(tmp_path / "in", "--k", 3, "-o", tmp_path / "out").exit_code == 1
    assert written(tmp_path / "out") == sorted(["index.html", *(f"{kind}/three.png" for kind in KINDS)])


def test_a_bad_picture_is_reported_and_skipped(tmp_path: Path) -> None:
    draw(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.png").write_text("not a picture")
    whole = draw(tmp_path / "in" / "cut.png", seed=2)
    whole.write_bytes(whole.read_bytes()[:300])
    damaged = draw(tmp_path / "in" / "damaged.png", seed=3)
    content = bytearray(damaged.read_bytes())
    content[37:41] = b"\0\0\0\0"  # the name of the first chunk of pixels
    damaged.write_bytes(bytes(content))
    result = run(tmp_path / "in", "--k", 2, "-o", tmp_path / "out")
    assert result.exit_code == 1, result.output
    assert "1 of 4 pictures" in result.stdout
    assert [name in result.stderr for name in ("bad.png", "cut.png", "damaged.png", "good.png")] == [True] * 3 + [False]
    assert written(tmp_path / "out") == sorted(["index.html", *(f"{kind}/good.png" for kind in KINDS)])
    page = (tmp_path / "out" / "index.html").read_text()
    assert "bad.png" in page and "Not segmented" in page


def test_too_many_regions_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captum_ultra.insights.segment_folder.MOST_LABELS", 4)
    result = run(draw(tmp_path / "one.png"), "--k", 30, "-o", tmp_path / "out")
    assert result.exit_code == 1 and "raise the threshold" in result.stderr
    assert written(tmp_path / "out") == ["index.html"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--k", 2, "--threshold", 0.3], ["not both"]),
        (["--k", 0], ["--k"]),
        (["--k", 65], ["at most 64"]),
        (["--threshold", -1], ["--threshold"]),
        (["--smooth", 2], ["odd"]),
        (["--landmarks", 1], ["at least 2"]),
        (["--layer", 9], ["layer=9"]),
        (["--layer", 0], ["layer after a block"]),
        (["--blocks", "nowhere"], ["nowhere"]),
        (["--model", "nothing"], ["nothing"]),
        (["--score", "beauty"], ["beauty"]),
        (["--method", "beauty"], ["'beauty'", "ultra"]),
    ],
)
@pytest.mark.filterwarnings("ignore:the map is zero")
def test_bad_input_is_one_line(tmp_path: Path, arguments: list[object], words: list[str]) -> None:
    picture = draw(tmp_path / "one.png")
    assert_one_line(run(picture, *arguments, "-o", tmp_path / "out"), *words)
    assert not (tmp_path / "out").exists()


def test_nothing_to_segment(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert_one_line(run(tmp_path / "empty", "-o", tmp_path / "out"), "empty", "no pictures")
    assert_one_line(run(tmp_path / "none.png", "-o", tmp_path / "out"), "none.png")
    (tmp_path / "file").write_text("")
    assert_one_line(run(draw(tmp_path / "one.png"), "-o", tmp_path / "file"), "file")
    assert not (tmp_path / "out").exists()


def test_a_missing_library_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("captum_ultra.segmentation.linkage.find_spec", lambda name: None)
    assert_one_line(run(draw(tmp_path / "one.png"), "-o", tmp_path / "out"), "scipy", "captum_ultra[segmentation]")


def test_text_models_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = loader.LoadedModel(torch.nn.Identity(), "hf:words", tokenizer=str.split)
    monkeypatch.setattr(loader, "load_model", lambda name, pretrained: text)
    assert_one_line(run(draw(tmp_path / "one.png"), "--model", "hf:words", "-o", tmp_path / "out"), "reads text")


def test_label_images_hold_every_byte(tmp_path: Path) -> None:
    labels = np.arange(256).reshape(16, 16)
    write_labels(tmp_path / "labels.png", labels)
    with Image.open(tmp_path / "labels.png") as image:
        assert np.array_equal(np.asarray(image), labels)
