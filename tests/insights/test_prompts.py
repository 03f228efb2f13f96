"""Maps of prompts: from a CLIP model in a folder and a picture to the maps, in one call and from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from captum_ultra import GenericAttention, text_head
from captum_ultra.cli import app
from captum_ultra.insights.compare import Comparison
from captum_ultra.insights.prompts import explain_prompts
from captum_ultra.models.loader import LoadedModel, load_model
from tests.adapters.test_text_head import SIZE, tokenizer, towers

PROMPTS = ["the big cat", "a dog, and a red ball"]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny CLIP with its tokenizer and preprocessing in a folder, as `load_model` takes it."""
    from transformers import CLIPImageProcessor

    folder = tmp_path_factory.mktemp("tiny-clip")
    towers("CLIP").save_pretrained(folder)
    size = {"height": SIZE, "width": SIZE}
    CLIPImageProcessor(size={"shortest_edge": SIZE}, crop_size=size).save_pretrained(folder)
    tokenizer().save_pretrained(folder)
    return f"hf:{folder}"


@pytest.fixture(scope="module")
def loaded(clip: str) -> LoadedModel:
    return load_model(clip)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return path


@pytest.fixture
def expected(loaded: LoadedModel, picture: Path) -> Any:
    explain = GenericAttention(loaded.model, head=text_head(loaded.model, loaded.tokenizer, PROMPTS))
    assert loaded.preprocess is not None
    inputs = loaded.preprocess(Image.open(picture))
    return [explain.attribute(inputs, target=number)[0, 0].numpy() for number in range(2)]


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def prompted(*prompts: str) -> list[str]:
    return [each for prompt in prompts for each in ("--prompt", prompt)]


def test_one_call(loaded: LoadedModel, picture: Path, expected: Any) -> None:
    found = explain_prompts(loaded, Image.open(picture), PROMPTS)
    np.testing.assert_allclose(found.maps, expected, rtol=1e-4, atol=1e-7)
    titles = [axes.get_title().replace("\n", " ") for axes in found.figure().axes[:3]]
    assert titles == ["GAE", *PROMPTS] and found.figure().axes[0].get_xlabel() == loaded.name
    with pytest.raises(ValueError, match="'rollout' gives every prompt the same map; take one of gae, "):
        explain_prompts(loaded, Image.open(picture), PROMPTS, method="rollout")


def test_explain_writes_the_maps_of_prompts(clip: str, picture: Path, tmp_path: Path, expected: Any) -> None:
    output = tmp_path / "maps.npz"
    result = run("explain", picture, "--model", clip, *prompted(*PROMPTS), "-o", output)
    assert result.exit_code == 0, result.output
    assert "'the big cat', 'a dog, and a red ball' in picture.png" in result.stdout
    with np.load(output) as saved:
        np.testing.assert_allclose(saved["maps"], expected, rtol=1e-4, atol=1e-7)
        assert saved["prompts"].tolist() == PROMPTS and saved["model"] == clip
    figure = tmp_path / "maps.svg"
    assert run("explain", picture, "--model", clip, *prompted("a dog"), "-o", figure).exit_code == 0
    assert "a dog" in figure.read_text()


def test_compare_takes_prompts_as_classes(clip: str, picture: Path, tmp_path: Path, expected: Any) -> None:
    output = tmp_path / "found.npz"
    arguments = ["--model", clip, "--methods", "gae,rollout", "--target", PROMPTS[1], "-o", output]
    result = run("compare", picture, picture, *prompted(*PROMPTS), *arguments)
    assert result.exit_code == 0, result.output
    found = Comparison.load(output)
    assert found.classes == tuple(PROMPTS) and found.targets.tolist() == [1, 1] and not found.refused
    np.testing.assert_allclose(found.maps[0, 0], expected[1], rtol=1e-4, atol=1e-7)
    one = run("compare", picture, *prompted("a dog"), "--model", clip, "--methods", "gae", "-o", tmp_path / "one.svg")
    assert one.exit_code == 0 and "predicted a dog (class 0" in one.stdout


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([], ["give either --token", "--prompt"]),
        (["--token", "1,1", "--prompt", "a cat"], ["give either --token"]),
        (["--prompt", "a cat", "--prompt", ""], ["'' is no text"]),
        (["--prompt", "a cat", "--layer", "2"], ["--layer and --score are of a token", "leave them away"]),
        (["--prompt", "a cat", "--method", "rollout"], ["'rollout' gives every prompt the same map", "token_tm"]),
        (["--prompt", "a cat"], ["'scenes-vit' reads image", "open_clip:"]),
    ],
)
def test_what_does_not_go_together(picture: Path, tmp_path: Path, changes: list[str], words: list[str]) -> None:
    result = run("explain", picture, *changes, "-o", tmp_path / "map.png")
    assert result.exit_code == 2 and not result.stdout
    (line,) = result.stderr.splitlines()
    assert all(word in line for word in words), line
    assert not (tmp_path / "map.png").exists()
