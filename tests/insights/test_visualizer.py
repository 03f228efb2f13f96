"""The visualizer: what it computes is what the methods compute; what it refuses; that models are left as found."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from captum_ultra import GenericAttention, LatentTokenAttribution, ResidualLRP
from captum_ultra.attr.methods import METHODS
from captum_ultra.insights.features import Batch, ImageFeature, TextFeature
from captum_ultra.insights.visualizer import TokenVisualizer
from captum_ultra.insights.visualizer_requests import configuration, explained, listed_samples
from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig

CLASSES = ViTClassifierConfig().classes
IMAGES = torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def normalised(image: Tensor) -> Tensor:
    return 2 * image - 1


def classifier() -> ViTClassifier:
    torch.manual_seed(0)
    return ViTClassifier(ViTClassifierConfig(image_size=16, dim=16, depth=2, heads=2)).eval()


def visualizer(model: Any = None, **changes: Any) -> TokenVisualizer:
    model = classifier() if model is None else model
    arguments: dict[str, Any] = {
        "models": model,
        "classes": CLASSES,
        "features": ImageFeature("Photo", input_transforms=normalised),
        "dataset": [Batch(IMAGES, labels=torch.tensor([0, 1, 2]))],
        **changes,
    }
    return TokenVisualizer(**arguments)


class Reader(nn.Module):
    """Two encoder layers over ids, and two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, 2)

    def forward(self, ids: Tensor) -> Tensor:
        logits: Tensor = self.head(self.encoder(self.words(ids)).mean(1))
        return logits


@pytest.mark.parametrize(
    ("name", "method"), [("LatentTokenAttribution", LatentTokenAttribution), ("ResidualLRP (token)", ResidualLRP)]
)
def test_tokens_are_explained_as_the_method_does(name: str, method: Any) -> None:
    model = classifier()
    found = visualizer(model).explain(1, name, token=(1, 2), layer=1, score="energy")
    expected = method(model).attribute(normalised(IMAGES[1:2]), token=(1, 2), layer=1, score="energy")
    np.testing.assert_allclose(found.values, expected[0, 0].numpy())
    assert (
        found.grid == (4, 4) and found.patches == list(range(1, 17)) and found.token == (1, 2) and found.target is None
    )


def test_classes_are_explained_as_the_method_does() -> None:
    model = classifier()
    shown, inputs = visualizer(model, score_func=lambda logits: logits.softmax(-1)), normalised(IMAGES[:1])
    scores = model(inputs)[0].softmax(-1)
    found = shown.explain(0, "GenericAttention", target=3)
    np.testing.assert_allclose(found.values, GenericAttention(model).attribute(inputs, target=3)[0, 0].numpy())
    assert [each.score for each in found.predictions] == pytest.approx(scores.sort(descending=True).values[:4].tolist())
    assert [each.label for each in found.predictions] == [model.classes[i] for i in scores.topk(4).indices]
    predicted = shown.explain(0, "GenericAttention")
    assert predicted.target == int(scores.argmax())


def test_the_class_of_the_page_can_be_ignored() -> None:
    found = visualizer(use_label_for_attr=False).explain(0, "GenericAttention", target=3)
    assert found.target == found.predictions[0].index


def test_texts() -> None:
    model, ids = Reader().eval(), torch.tensor([[3, 1, 4, 1], [5, 9, 2, 6]])
    words = TextFeature("Review", None, None, lambda ids: [f"w{i}" for i in ids[0]])
    shown = visualizer(model, classes=["bad", "good"], features=words, dataset=[Batch(ids)])
    expected = LatentTokenAttribution(model).attribute(ids[1:], token=2, layer=1)
    np.testing.assert_allclose(shown.explain(1, token=2, layer=1).values, expected[0].numpy())
    answer = explained(shown, request(sample=1, arguments={"token": "-1"}))
    assert answer["words"] == ["w5", "w9", "w2", "w6"] and answer["token"] == 3
    assert max(answer["values"]) == 1 and answer["label"] is None and len(answer["predictions"]) == 2
    assert listed_samples(shown, {"start": 0, "count": 5})["samples"][1] == {
        "index": 1, "label": None, "words": "w5 w9 w2 w6",
    }  # fmt: skip
    with pytest.raises(ValueError, match="needs an image"):
        shown.explorer(0)


def test_without_classes_tokens_are_explained() -> None:
    shown = visualizer(classes=None)
    assert len(shown.methods) == len(METHODS) and {each.explains for each in shown.methods.values()} == {"token"}
    assert shown.explain(0, token=3).predictions == ()
    with pytest.raises(ValueError, match="explanations of a class need classes"):
        visualizer(classes=None, methods=["GenericAttention"])


def test_models_are_left_as_they_were() -> None:
    model = classifier().train()
    model.blocks[0].eval()
    modes = [module.training for module in model.modules()]
    weights = {name: parameter.clone() for name, parameter in model.named_parameters()}
    shown = visualizer(model)
    shown.explain(0, "GenericAttention")
    with pytest.raises(ValueError, match="layer=7"):
        shown.explain(0, layer=7)
    assert modes == [module.training for module in model.modules()]
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert all(torch.equal(weights[name], parameter) for name, parameter in model.named_parameters())


def test_results_are_kept() -> None:
    shown = visualizer()
    first = shown.explain(0, token="1 2")
    assert shown.explain(0, token=(1, 2)) is first and shown.explain(1, token=(1, 2)) is not first


def test_the_explorer_of_a_sample_is_bounded() -> None:
    shown = visualizer()
    assert shown.explorer(2).models[0].maps["ULTra, sum score", 2].shape == (16, 16)
    with pytest.raises(ValueError, match="4 x 4 patches are more than max_tokens=15"):
        visualizer(max_tokens=15).explorer(0)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"models": []}, TypeError, "at least one"),
        ({"models": ["model"]}, TypeError, "torch module"),
        ({"features": [ImageFeature("a"), ImageFeature("b")]}, ValueError, "2 features were given"),
        ({"methods": ["Saliency"]}, ValueError, "'Saliency' is unknown"),
        ({"max_samples": 0}, ValueError, "at least 1"),
    ],
)
def test_visualizers_that_are_refused(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        visualizer(**changes)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"sample": 3}, "sample 3 does not exist; there are 3"),
        ({"sample": -1}, "sample -1 does not exist"),
        ({"method": "Saliency"}, "method 'Saliency' is unknown"),
        ({"target": 6}, "class 6 does not exist; there are 6"),
        ({"target": -1}, "class -1 does not exist"),
        ({"model": 1}, "model 1 does not exist; there are 1"),
        ({"model": -1}, "model -1 does not exist"),
        ({"blocks": "x"}, "no argument 'blocks'"),
        ({"layer": 9}, "layer=9 does not exist"),
        ({"token": "9 9"}, "patch grid is 4 x 4"),
    ],
)
def test_what_cannot_be_explained(asked: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        visualizer().explain(**asked)


def request(**changes: Any) -> dict[str, Any]:
    return {"sample": 0, "model": 0, "method": "LatentTokenAttribution", "target": None, "arguments": {}, **changes}


def test_the_page_gets_the_map_in_bytes() -> None:
    shown = visualizer()
    answer = explained(shown, request(arguments={"token": "1 2", "layer": "1"}))
    values = shown.explain(0, token=(1, 2), layer=1).values
    steps = np.frombuffer(base64.b64decode(answer["map"]), dtype=np.uint8).reshape(answer["shape"])
    np.testing.assert_allclose(steps / 255 * answer["high"], values, atol=0.51 / 255 * answer["high"])
    assert answer["patch"] == (1, 2) and answer["grid"] == (4, 4) and not answer["signed"]
    assert answer["label"] == CLASSES[0] and answer["picture"].startswith("data:image/png;base64,")


def test_signed_maps_have_their_zero_in_the_middle() -> None:
    shown = visualizer()
    answer = explained(shown, request(method="AttCAT"))
    values = shown.explain(0, "AttCAT").values
    steps = np.frombuffer(base64.b64decode(answer["map"]), dtype=np.uint8).reshape(answer["shape"])
    assert answer["signed"] and values.min() < 0 and answer["patch"] is None
    np.testing.assert_allclose((steps - 127.5) / 127.5 * answer["high"], values, atol=0.51 / 127 * answer["high"])


@pytest.mark.parametrize(("token", "patch"), [("0", None), ("1", (0, 0)), ("7", (1, 2)), ("16", (3, 3))])
def test_indices_of_patches_are_outlined(token: str, patch: Any) -> None:
    assert explained(visualizer(), request(arguments={"token": token}))["patch"] == patch


def test_the_configuration_has_what_the_page_draws() -> None:
    told = configuration(visualizer())
    assert told["classes"] == list(CLASSES) and told["models"] == ["ViTClassifier"]
    latent = next(each for each in told["methods"] if each["name"] == "LatentTokenAttribution")
    assert latent["explains"] == "token" and list(latent["parameters"]) == ["token", "layer", "score"]


def test_samples_are_listed_in_steps() -> None:
    shown = visualizer()
    first = listed_samples(shown, {"start": 0, "count": 2})
    assert [each["index"] for each in first["samples"]] == [0, 1] and first["more"]
    rest = listed_samples(shown, {"start": 2, "count": 2})
    assert [each["label"] for each in rest["samples"]] == [CLASSES[2]] and not rest["more"]
    assert listed_samples(shown, {"start": 9, "count": 2}) == {"samples": [], "more": False}


def test_samples_are_prepared_when_they_are_needed() -> None:
    prepared: list[Tensor] = []

    def transform(image: Tensor) -> Tensor:
        prepared.append(image)
        return normalised(image)

    shown = visualizer(
        features=ImageFeature("Photo", input_transforms=transform), dataset=[Batch(IMAGES), Batch(IMAGES)]
    )
    listed_samples(shown, {"start": 0, "count": 6})
    assert not prepared
    shown.explain(4)
    shown.explain(4, "GenericAttention")
    assert len(prepared) == 1 and torch.equal(prepared[0], IMAGES[1])


class Failing:
    """A dataset of which some batches cannot be read."""

    def __init__(self, *batches: Any) -> None:
        self.left = list(batches)

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        if not self.left:
            raise StopIteration
        batch = self.left.pop(0)
        if isinstance(batch, Exception):
            raise batch
        return batch


def test_a_bad_sample_leaves_the_others(caplog: pytest.LogCaptureFixture) -> None:
    bad = Batch(IMAGES, labels=torch.tensor([0.0, torch.nan, 2.0]))
    dataset = Failing(
        bad, OSError("a secret"), Batch("no tensor"), Batch(IMAGES, labels=torch.tensor([1])), Batch(IMAGES)
    )
    shown = visualizer(dataset=dataset)
    listed = listed_samples(shown, {"start": 0, "count": 24})["samples"]
    assert [each["index"] for each in listed] == list(range(9))
    assert [each["index"] for each in listed if "error" in each] == [1, 3, 4, 5]
    assert {each["error"] for each in listed if "error" in each} == {"cannot be read; the log of the program says why"}
    assert "a secret" in caplog.text
    assert shown.explain(2).values.shape == shown.explain(8).values.shape == (16, 16)
    with pytest.raises(OSError, match="a secret"):
        shown.explain(3)


def test_a_picture_that_cannot_be_shown_leaves_the_others() -> None:
    def show(image: Tensor) -> Tensor:
        return image if torch.equal(image[0], IMAGES[1]) else image[:, :2]

    listed = listed_samples(visualizer(features=ImageFeature("Photo", None, None, show)), {"start": 0, "count": 3})
    assert ["error" in each for each in listed["samples"]] == [True, False, True]


@pytest.mark.parametrize(
    "asked",
    [
        None, [], "x", 3, {}, request(extra=1), request(sample="0"), request(sample=True), request(sample=0.5),
        request(method=["LatentTokenAttribution"]), request(target="1"), request(arguments=[]),
        request(arguments={"sample": 1}), request(arguments={"token": {"a": 1}}), request(arguments={"token": None}),
    ],
)  # fmt: skip
def test_requests_of_another_form(asked: Any) -> None:
    with pytest.raises(ValueError):
        explained(visualizer(), asked)


@pytest.mark.parametrize(("start", "count"), [(-1, 1), (0, 0), (0, 25), (0, -1)])
def test_lists_out_of_bounds(start: int, count: int) -> None:
    with pytest.raises(ValueError, match="at most 24 at once"):
        listed_samples(visualizer(), {"start": start, "count": count})
