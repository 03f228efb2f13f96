"""A folder of pictures: one that cannot be read is named, and the others are segmented."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from captum_ultra.cli import app
from captum_ultra.insights.segment_folder import find_pictures
from captum_ultra.models.vit import VisionTransformer, ViTConfig


def test_pictures_that_cannot_be_read_do_not_end_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = VisionTransformer(ViTConfig(image_size=32, dim=16, depth=2, heads=2)).eval()
    monkeypatch.setattr("captum_ultra.models.vit.scenes_vit", lambda pretrained=True: model)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    folder = tmp_path / "in"
    folder.mkdir()
    for name in ("a.png", "z.png"):
        Image.fromarray(pixels).save(folder / name)
    Image.new("RGB", (300, 300)).save(folder / "bomb.png")
    Image.fromarray(pixels[..., 0] / np.float32(255)).save(folder / "floats.tif")
    (folder / ".ipynb_checkpoints").mkdir()
    Image.fromarray(pixels).save(folder / ".ipynb_checkpoints" / "a-checkpoint.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # more than twice as many are called a bomb
    assert len(find_pictures(folder)) == 4
    result = CliRunner().invoke(app, ["segment", str(folder), "--k", "2", "-o", str(tmp_path / "out")])
    assert result.exit_code == 1, result.output
    assert "2 of 4 pictures" in result.stdout
    assert "bomb.png has too many pixels" in result.stderr and "floats.tif is no picture" in result.stderr
    assert {each.name for each in (tmp_path / "out" / "labels").iterdir()} == {"a.png", "z.png"}
    page = (tmp_path / "out" / "index.html").read_text()
    assert "bomb.png" in page and "floats.tif" in page
