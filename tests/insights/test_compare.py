"""Explanations side by side: the maps are those of the methods, and the sheet and the command say what they are."""

from __future__ import annotations

import copy
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from typer.testing import CliRunner

from captum_ultra import UnsupportedModelError
from captum_ultra.attr.methods import METHODS, method_class
from captum_ultra.cli import app
from captum_ultra.data.object_scenes import WEAVES
from captum_ultra.insights.compare import Comparison, compare, compare_pictures
from captum_ultra.insights.comparison_figure import TITLES, comparison_figure, scaled
from captum_ultra.models.class_names import class_names, class_number
from captum_ultra.models.loader import LoadedModel, load_model
from captum_ultra.models.torchvision_shim import ensure_torchvision_imports
from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig
from tests.builders import stir

SHAPES = ("disk", "square", "triangle", "star", "ring", "cross")


@pytest.fixture(scope="module")
def model() -> ViTClassifier:
    """Tiny, with weights under which methods differ."""
    torch.manual_seed(0)
    config = ViTClassifierConfig(image_size=16, dim=16, depth=3, heads=2, classes=SHAPES)
    found = stir(ViTClassifier(config)).eval()
    assert isinstance(found, ViTClassifier)
    return found


@pytest.fixture(scope="module")
def loaded(model: ViTClassifier) -> LoadedModel:
    return replace(load_model("scenes-classifier", pretrained=False), model=model, name="tiny", classes=SHAPES)


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 16, 24, generator=torch.Generator().manual_seed(1))[..., :16].contiguous()


@pytest.fixture(scope="module")
def found(loaded: LoadedModel) -> Comparison:
    x = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(2))
    return compare(loaded, x, methods="gae,attcat,token_tm", names=["one.png", "two.png"])


class WithoutHead(nn.Module):
    """The stream of a tiny ViT, without classes."""

    def __init__(self, model: ViTClassifier) -> None:
        super().__init__()
        self.inner = model

    def forward(self, x: Tensor) -> Any:
        return self.inner.forward_features(x)


def parallel_blocks() -> nn.Module:
    """Attention and feed-forward beside each other, which TokenTM cannot tell apart and the others need not."""
    ensure_torchvision_imports()
    from timm.models.vision_transformer import ParallelScalingBlock, VisionTransformer

    torch.manual_seed(0)
    return stir(
        VisionTransformer(
            img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=4, block_fn=ParallelScalingBlock
        )
    ).eval()


def test_maps_are_those_of_the_methods(model: ViTClassifier, images: Tensor) -> None:
    found = compare(model, images)
    with torch.no_grad():
        logits = model(images)
    assert found.targets.tolist() == found.predicted.tolist() == logits.argmax(1).tolist()
    chances = logits.double().softmax(1).amax(1).numpy()
    np.testing.assert_allclose(found.probabilities, np.stack([chances, chances], 1), rtol=1e-6)
    assert (found.milliseconds > 0).all() and not found.refused and found.methods == tuple(METHODS)
    for column, name in enumerate(METHODS):
        for row in range(2):
            alone = method_class(name)(model).attribute(images[row : row + 1], target=int(found.targets[row]))[0, 0]
            np.testing.assert_allclose(found.maps[row, column], alone, atol=1e-6 * float(alone.abs().max()))
    assert (np.ptp(found.maps, axis=(2, 3)) > 0).all()


def test_the_class_asked_for_is_explained(loaded: LoadedModel, images: Tensor) -> None:
    one = compare(loaded, images, "ring", "gae")
    each = compare(loaded, images, torch.tensor([4, 1]), "gae")
    assert one.targets.tolist() == [4, 4] and each.targets.tolist() == [4, 1]
    np.testing.assert_array_equal(one.maps[0], each.maps[0])
    assert not np.allclose(one.maps[1], each.maps[1])
    assert (one.probabilities[:, 0] <= one.probabilities[:, 1]).all()


def test_the_model_is_left_as_it_was(model: ViTClassifier, images: Tensor) -> None:
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    compare(model, images, methods="gae,legrad")
    assert model.training and model.blocks.training and all(each.requires_grad for each in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())
    model.eval()


def test_a_method_that_refuses_is_an_empty_panel() -> None:
    found = compare(parallel_blocks(), torch.randn(1, 3, 16, 16), 1, "gae,token_tm,rollout")
    assert list(found.refused) == ["token_tm"] and "take GenericAttention" in found.refused["token_tm"]
    assert np.isnan(found.maps[0, 1]).all() and np.isnan(found.milliseconds[0, 1])
    assert np.isfinite(found.maps[0, [0, 2]]).all() and np.isfinite(found.milliseconds[0, [0, 2]]).all()
    panel = found.figure().axes[2]
    assert (panel.get_title(), panel.get_xlabel(), len(panel.images)) == ("TokenTM", "refused", 0)
    assert "block 0" in panel.texts[0].get_text()


def test_a_precision_that_a_method_refuses(model: ViTClassifier, images: Tensor) -> None:
    found = compare(copy.deepcopy(model).bfloat16(), images.bfloat16(), 1, "gae,lrp")
    assert list(found.refused) == ["lrp"] and "float" in found.refused["lrp"]
    assert np.isfinite(found.maps[:, 0]).all() and np.isnan(found.maps[:, 1]).all()


def test_without_a_head_only_methods_that_need_no_class(model: ViTClassifier, images: Tensor) -> None:
    headless = WithoutHead(model)
    found = compare(headless, images, methods="raw_attention,gae,rollout")
    assert list(found.refused) == ["gae"] and "head=" in found.refused["gae"]
    assert found.targets.tolist() == found.predicted.tolist() == [-1, -1] and np.isnan(found.probabilities).all()
    assert found.figure().axes[0].get_xlabel() == "no class"
    with pytest.raises(UnsupportedModelError, match=r"explained by none of gae, legrad; gae:.*head="):
        compare(headless, images, methods="gae,legrad")
    with pytest.raises(UnsupportedModelError, match="head="):
        compare(headless, images, 1, methods="rollout")


def test_a_head_gives_classes(model: ViTClassifier, images: Tensor) -> None:
    def head(features: Tensor) -> Tensor:
        return model.head(features[:, 0])

    with_head = compare(WithoutHead(model), images, methods="gae", head=head)
    np.testing.assert_allclose(with_head.maps, compare(model, images, methods="gae").maps, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"methods": "gae,beauty"}, ValueError, "'beauty' is unknown; known are raw_attention"),
        ({"methods": ""}, ValueError, "name each once"),
        ({"methods": ["gae", "gae"]}, ValueError, "name each once"),
        ({"target": 6}, ValueError, "class 6 does not exist, the model has 6 classes"),
        ({"target": [0, 1, 2]}, ValueError, "3 classes for a batch of 2"),
        ({"target": [[0, 1], [2, 3]]}, ValueError, "one an image is compared"),
        ({"target": "rink"}, ValueError, "names no class of the model; close are ring"),
        ({"target": "house"}, ValueError, "there are 6: disk, square, triangle"),
        ({"names": ["one"]}, ValueError, "1 names were given for 2 images"),
        ({"x": torch.zeros(2, 5, 16)}, ValueError, "compare draws maps of images"),
    ],
)
def test_bad_arguments(
    loaded: LoadedModel, images: Tensor, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        compare(**{"model": loaded, "x": images, "methods": "gae", **changes})


def test_saved_and_read_again(found: Comparison, tmp_path: Path) -> None:
    partly = replace(found, refused={"attcat": "why not"})
    partly.save(tmp_path / "new" / "found.npz")
    again = Comparison.load(tmp_path / "new" / "found.npz")
    for name, value in vars(partly).items():
        other = getattr(again, name)
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(other, value)
            assert other.dtype == value.dtype
        else:
            assert other == value
    np.savez(tmp_path / "other.npz", maps=np.zeros(3))
    with pytest.raises(ValueError, match="holds no comparison"):
        Comparison.load(tmp_path / "other.npz")


def test_several_images_are_a_row_each(found: Comparison) -> None:
    figure = comparison_figure(found)
    panels = figure.axes[:8]
    assert [panel.get_title() for panel in panels] == ["image", "GAE", "AttCAT", "TokenTM", "", "", "", ""]
    assert [panels[0].get_ylabel(), panels[4].get_ylabel()] == ["one.png", "two.png"]
    for row in range(2):
        for column in range(3):
            label = panels[4 * row + 1 + column].get_xlabel()
            assert label.endswith(" ms") and float(label[:-3].replace(",", "")) == pytest.approx(
                found.milliseconds[row, column], rel=0.06
            )
    name, chance = panels[0].get_xlabel().split()
    assert name == SHAPES[found.targets[0]] and float(chance) == pytest.approx(found.probabilities[0, 0], abs=0.01)


def test_one_image_is_wrapped_and_needs_no_empty_frames(found: Comparison) -> None:
    columns = [0, 1, 2, 0, 1, 2, 0, 1, 2]
    many = replace(
        found, pictures=found.pictures[:1], maps=found.maps[:1, columns], milliseconds=found.milliseconds[:1, columns],
        methods=tuple(found.methods[column] for column in columns), targets=found.targets[:1],
        predicted=found.predicted[:1], probabilities=found.probabilities[:1], names=(),
    )  # fmt: skip
    panels = comparison_figure(many).axes[:10]
    tops = {round(panel.get_subplotspec().rowspan.start) for panel in panels}
    assert tops == {0, 1} and all(panel.axison for panel in panels)
    eleven = replace(
        many, maps=many.maps[:, :6], milliseconds=many.milliseconds[:, :6], methods=many.methods[:6]
    ).figure()
    assert [axes.axison for axes in eleven.axes[:8]] == [True] * 7 + [False]


def test_signed_maps_have_their_own_colours(found: Comparison) -> None:
    maps = np.zeros((1, 2, 8, 8), dtype=np.float32)
    maps[0, :, 2, 3] = 1
    maps[0, 1, 5, 5] = -1
    two = replace(
        found, pictures=np.full((1, 8, 8, 3), 0.5, dtype=np.float32), maps=maps, methods=("gae", "attcat"), names=(),
        milliseconds=found.milliseconds[:1, :2], targets=found.targets[:1], predicted=found.predicted[:1],
        probabilities=found.probabilities[:1],
    )  # fmt: skip
    figure = two.figure()
    unsigned, signed = (np.asarray(axes.images[0].get_array(), dtype=np.float64) for axes in figure.axes[1:3])
    assert signed[2, 3, 0] > signed[2, 3, 2] + 0.2 and signed[5, 5, 2] > signed[5, 5, 0] + 0.2, "red for, blue against"
    grey = signed[0, 0]
    assert np.ptp(grey) < 0.02, "zero has no colour"
    assert unsigned[2, 3].sum() > unsigned[5, 5].sum() and np.allclose(unsigned[5, 5], unsigned[0, 0])
    labels = [[tick.get_text() for tick in axes.get_xticklabels()] for axes in figure.axes[3:]]
    assert labels == [["lowest", "highest of the map"], ["against", "0", "for"]]
    only = replace(two, maps=maps[:, :1], methods=("gae",), milliseconds=two.milliseconds[:, :1])
    assert len(only.figure().axes) == 3, "no scale that no map has"


def test_maps_without_a_place_that_stands_out_say_so(found: Comparison) -> None:
    maps = np.abs(found.maps[:1])
    maps[0, 0], maps[0, 1] = 0, 3
    few = replace(
        found, pictures=found.pictures[:1], maps=maps, milliseconds=found.milliseconds[:1], names=(),
        targets=found.targets[:1], predicted=found.predicted[:1], probabilities=found.probabilities[:1],
    )  # fmt: skip
    notes = [[text.get_text() for text in panel.texts] for panel in few.figure().axes[1:4]]
    assert notes == [["zero:\nno relevance"], ["the same\neverywhere"], []]


def test_rounding_below_zero_is_no_sign(found: Comparison) -> None:
    maps = np.abs(found.maps[:, :1])
    maps[0, 0, 0, 0] = -1e-5 * maps.max()
    figure = replace(found, maps=maps, methods=("gae",), milliseconds=found.milliseconds[:, :1]).figure()
    assert next(tick.get_text() for tick in figure.axes[-1].get_xticklabels()) == "lowest"


def test_scales() -> None:
    values = np.linspace(2.0, 6.0, 50).reshape(5, 10)
    unsigned, signed = scaled(values, signed=False), scaled(values - 4, signed=True)
    assert unsigned.min() == 0 and unsigned.max() == 1
    np.testing.assert_allclose(np.sign(signed), np.sign(values - 4))
    assert np.abs(signed).max() == 1
    np.testing.assert_allclose(scaled(1000 * values, signed=False), unsigned)
    assert not scaled(np.full((4, 4), 7.0), signed=False).any() and not scaled(np.zeros((4, 4)), signed=True).any()


def test_every_method_has_a_title() -> None:
    assert list(TITLES) == list(METHODS)


@pytest.mark.parametrize(
    ("target", "number"), [(3, 3), ("3", 3), (" -1 ", -1), ("RING", 4), ("tabby cat", 6), ("tabby, tabby cat", 6)]
)
def test_class_number(target: int | str, number: int) -> None:
    assert class_number(target, [*SHAPES, "tabby, tabby cat"]) == number


def test_class_names_that_are_not_there_or_not_unique() -> None:
    with pytest.raises(ValueError, match="give a number"):
        class_number("ring")
    with pytest.raises(ValueError, match="names the classes 0, 2"):
        class_number("crane", ["crane", "robin", "crane, tall machine"])


def test_names_of_the_libraries(loaded: LoadedModel) -> None:
    ensure_torchvision_imports()
    import timm
    import transformers

    assert class_names(loaded) == SHAPES
    assert class_names(LoadedModel(timm.create_model("test_vit"), "timm:test_vit"))[281] == "tabby, tabby cat"
    assert class_names(LoadedModel(timm.create_model("test_vit", num_classes=7), "timm:test_vit")) == ()
    assert class_names(LoadedModel(timm.create_model("test_vit", num_classes=0), "timm:test_vit")) == ()
    assert class_names(LoadedModel(nn.Linear(2, 1000), "torchvision:vit_b_16"))[0] == "tench"
    assert class_names(LoadedModel(nn.Linear(2, 10), "torchvision:vit_b_16")) == ()
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8, image_size=8, patch_size=4,
        id2label={1: "dog", 0: "cat"},
    )  # fmt: skip
    assert class_names(LoadedModel(transformers.ViTForImageClassification(config), "hf:pets")) == ("cat", "dog")


def test_pictures_of_any_size(loaded: LoadedModel) -> None:
    random = np.random.default_rng(0)
    pictures = [
        (name, Image.fromarray(random.integers(0, 256, size, dtype=np.uint8)))
        for name, size in (("a.png", (40, 30, 3)), ("b.png", (64, 64, 3)))
    ]
    assert loaded.preprocess is not None
    small = replace(loaded, preprocess=lambda image: loaded.preprocess(image)[..., :16, :16])  # type: ignore[misc]
    found = compare_pictures(small, pictures, methods="gae")
    assert found.names == ("a.png", "b.png") and found.model == "tiny"
    np.testing.assert_allclose(found.pictures, small.picture(torch.cat([small.preprocess(p) for _, p in pictures])))
    uneven = replace(small, preprocess=lambda image: torch.zeros(1, 3, 16, image.width))
    with pytest.raises(ValueError, match="at 2 sizes"):
        compare_pictures(uneven, pictures, methods="gae")
    with pytest.raises(ValueError, match="reads text, not images"):
        compare_pictures(LoadedModel(nn.Identity(), "words", tokenizer=str.split), pictures)


# The command.


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, ["compare", *(str(argument) for argument in arguments)])


def assert_one_line(result: Any, *words: str) -> None:
    assert result.exit_code == 2, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("captum-ultra: ") and not result.stdout
    for word in words:
        assert word in line


def test_command_writes_a_sheet(picture: Path, tmp_path: Path) -> None:
    output = tmp_path / "out" / "sheet.png"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = run(
            picture, picture, "--random-weights", "--methods", "rollout, gae", "--target", WEAVES[3], "-o", output
        )
    assert result.exit_code == 0, result.output
    first, second, rollout, gae, last = result.stdout.splitlines()
    assert first == second and first.startswith("picture.png: predicted ")
    assert f"{WEAVES[3]} (class 3, probability 0." in first
    assert rollout.startswith("rollout ") and rollout.endswith(" ms") and gae.startswith("gae ")
    assert last == f"scenes-classifier (random weights): {output}"
    with Image.open(output) as image:
        assert image.width > image.height > 300
    assert [file.name for file in output.parent.iterdir()] == ["sheet.png"]


def test_command_writes_numbers(picture: Path, tmp_path: Path) -> None:
    result = run(
        picture, "--model", "timm:test_vit", "--random-weights", "--target", "golden retriever", "--methods",
        "raw_attention,token_tm", "-o", tmp_path / "found.npz",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    found = Comparison.load(tmp_path / "found.npz")
    assert found.targets.tolist() == [207] and found.methods == ("raw_attention", "token_tm")
    assert found.model == "timm:test_vit (random weights)" and found.names == ("picture.png",)
    assert "explained golden retriever (class 207" in result.stdout


def test_command_reports_methods_that_refuse(picture: Path, tmp_path: Path) -> None:
    output = tmp_path / "sheet.svg"
    result = run(picture, "--model", "scenes-vit", "--random-weights", "--methods", "rollout,gae", "-o", output)
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("captum-ultra: gae: ") and "[B, K]" in line
    assert "picture.png: scenes-vit (random weights) has no classes" in result.stdout
    drawn = output.read_text()
    assert "rollout" in drawn and "refused" in drawn and "scenes-vit (random weights)" in drawn


def test_command_passes_over_what_is_no_picture(picture: Path, tmp_path: Path) -> None:
    broken, output = tmp_path / "broken.png", tmp_path / "found.npz"
    broken.write_text("not a picture")
    result = run(picture, broken, picture, "--random-weights", "--methods", "rollout", "-o", output)
    assert result.exit_code == 1
    (line,) = result.stderr.splitlines()
    assert line.startswith("captum-ultra: ") and "broken.png is damaged, or no image" in line
    assert Comparison.load(output).names == ("picture.png", "picture.png") and str(output) in result.stdout
    assert_one_line(run(broken, broken, "--methods", "rollout"), "broken.png", "no image")


def test_names_with_dollars_are_drawn(picture: Path, tmp_path: Path) -> None:
    odd, output = picture.with_name("a$_$b$.png"), tmp_path / "sheet.svg"
    picture.rename(odd)
    result = run(odd, odd, "--methods", "rollout", "-o", output)
    assert result.exit_code == 0, result.output
    assert "a$_$b$.png" in output.read_text()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["-o", "map.doc"], [".doc", ".png"]),
        (["--prompt", " "], ["prompts", "is no text"]),
        (["--prompt", "a cat"], ["'scenes-classifier (random weights)' reads image", "open_clip:"]),
        (["--methods", "gae,beauty"], ["'beauty'", "token_tm"]),
        (["--methods", "gae,gae"], ["gae,gae", "once"]),
        (["--target", " "], ["--target is blank"]),
        (["--target", "house"], ["'house'", WEAVES[0]]),
        (["--target", "6"], ["class 6 does not exist", "0..5"]),
        (["--model", "scenes_classifier"], ["scenes-classifier"]),
        (["--model", "timm:test_vit", "--target", "tabbi"], ["'tabbi'", "tabby"]),
        (["--model", "timm:resnet18"], ["ResNet", "no softmax attention"]),
        (["--model", "scenes-vit"], ["explained by none of gae", "[B, K]"]),
        (["--model", "facts-llama"], ["reads text"]),
        (["--blocks", "nowhere"], ["nowhere"]),
        (["nothing.png"], ["nothing.png"]),
    ],
)
def test_bad_input_is_one_line(
    picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: list[str], words: list[str]
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    methods = [] if "--methods" in changes else ["--methods", "gae"]
    assert_one_line(run(picture, "--random-weights", *methods, *changes), *words)
    assert not list(Path().iterdir()), "nothing is written"


def test_mistakes_are_found_before_the_model_is_loaded(picture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from captum_ultra.models import loader

    def never(*arguments: Any, **named: Any) -> None:
        raise AssertionError("loaded")

    monkeypatch.setattr(loader, "load_model", never)
    for changes in (["-o", "map.doc"], ["--methods", "beauty"], ["--target", ""], ["nothing.png"]):
        assert run(picture, "--methods", "gae", *changes).exit_code == 2
