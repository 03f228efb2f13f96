"""What the explorer computes and carries, without a browser."""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import Saliency
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import nn

from captum_ultra import (
    AttCAT,
    AttentionRollout,
    LatentTokenAttribution,
    RawAttention,
    ResidualLRP,
    TokenContribution,
)
from captum_ultra.insights import explore
from captum_ultra.insights.explorer import Explorer, ImageMaps
from captum_ultra.insights.explorer.packing import dequantised, is_signed, quantised
from captum_ultra.models.loader import LoadedModel, load_model
from captum_ultra.models.vit import VisionTransformer, ViTConfig
from tests.insights.explorer.samples import METHODS, image_sample
from tools import build_explorer


@pytest.fixture
def model() -> VisionTransformer:
    return VisionTransformer(ViTConfig(image_size=16, dim=16, depth=3, heads=2, cls_token=True)).eval()


@pytest.fixture
def image() -> torch.Tensor:
    return torch.randn(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def told(page: Explorer) -> tuple[dict[str, Any], bytes]:
    """What a page says, read as a browser would."""
    html = page.to_html()
    (text,) = re.findall(r'id="told">(.*?)</script>', html, re.DOTALL)
    (numbers,) = re.findall(r'id="numbers">(.*?)</script>', html, re.DOTALL)
    return json.loads(text), zlib.decompress(b64decode(numbers))


def test_the_built_page_is_up_to_date() -> None:
    assert build_explorer.PAGE.read_text(encoding="utf-8") == build_explorer.built(), "run tools/build_explorer.py"


def test_maps_are_those_of_single_tokens(model: nn.Module, image: torch.Tensor) -> None:
    page = explore(model, image, layers=[-1, 1, 1])
    (found,) = page.models
    assert isinstance(found, ImageMaps)
    assert (found.grid, found.layers, found.methods) == ((4, 4), (1, 3), ("ULTra, sum score", "ULTra, energy score"))
    method = LatentTokenAttribution(model)
    for layer in (1, 3):
        for score in ("sum", "energy"):
            for token in range(16):
                alone = method.attribute(image, token=divmod(token, 4), layer=layer, score=score, output="patches")
                row = found.maps[f"ULTra, {score} score", layer][token]
                torch.testing.assert_close(torch.from_numpy(row), alone[0])


def test_the_page_carries_the_maps(model: nn.Module, image: torch.Tensor) -> None:
    page = explore(model, image)
    said, numbers = told(page)
    (found,) = page.models
    for method in said["models"][0]["methods"]:
        for number, places in zip(said["models"][0]["layers"], method["layers"], strict=True):
            steps, scales = (
                np.frombuffer(numbers, kind, length // np.dtype(kind).itemsize, start)
                for kind, (start, length) in (("u1", places["steps"]), ("<f4", places["scales"]))
            )
            read = dequantised(steps.reshape(16, 16), scales, 255, method["signed"])
            expected = found.maps[method["label"], number]
            assert np.abs(read - expected).max() <= 0.51 * expected.max() / 255


@given(
    st.lists(st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=4),
    st.sampled_from([65535, 255, 31]),
)
def test_storing_loses_half_a_step_at_most(rows: list[list[float]], levels: int) -> None:
    values = np.array(rows)
    signed = is_signed(values)
    kept = values if signed else values.clip(min=0)
    largest = np.abs(values).max(axis=1, keepdims=True)
    read = dequantised(*quantised(values, levels, signed), levels, signed)
    assert (np.abs(read - kept) <= largest * (0.5 / (levels // 2 if signed else levels) + 1e-6) + 1e-38).all()


def test_other_methods_and_maps_that_are_there(model: nn.Module, image: torch.Tensor) -> None:
    class Own:
        def __init__(self, model: nn.Module) -> None:
            self.inner = LatentTokenAttribution(model)

        def attribute(self, inputs: torch.Tensor, token: str, layer: int, output: str) -> torch.Tensor:
            return 2 * self.inner.attribute(inputs, token=token, layer=layer, score="sum", output=output)

    given = {layer: torch.rand(16, 16) for layer in (1, 2, 3)}
    page = explore(model, image, methods={"sum": "sum", "own": Own, "object": Own(model), "given": given})
    (found,) = page.models
    for layer in (1, 2, 3):
        torch.testing.assert_close(
            torch.from_numpy(found.maps["own", layer] / 2), torch.from_numpy(found.maps["sum", layer])
        )
        assert (found.maps["own", layer] == found.maps["object", layer]).all()
        assert (found.maps["given", layer] == given[layer].numpy()).all()


NAMES = ["sum", ("residual", "energy"), "rollout", "raw_attention"]


def test_methods_by_name(model: nn.Module, image: torch.Tensor) -> None:
    page = explore(model, image, methods=NAMES, compare=["rollout", ("residual", "energy")])
    assert [label for _, label in page.views] == ["rollout", "residual LRP, energy score"]
    (found,) = page.models
    assert found.methods == ("ULTra, sum score", "residual LRP, energy score", "rollout", "raw attention")
    classes = (LatentTokenAttribution, ResidualLRP, AttentionRollout, RawAttention)
    for label, method in zip(found.methods, classes, strict=True):
        for layer in (1, 3):
            score = "energy" if method is ResidualLRP else "sum"
            alone = method(model).attribute(image, token="patches", layer=layer, score=score, output="patches")[0]
            torch.testing.assert_close(torch.from_numpy(found.maps[label, layer]), alone, rtol=1e-4, atol=1e-6)
    signed = {each["label"]: each["signed"] for each in told(page)[0]["models"][0]["methods"]}
    assert signed == {label: label == "residual LRP, energy score" for label in found.methods}


def test_methods_by_name_explain_texts() -> None:
    loaded = load_model("facts-llama")
    text = "Mara lives in Rome."
    methods = {"a": ("residual", "energy"), "b": "rollout", "object": AttentionRollout(loaded.model), "class": AttCAT}
    (found,) = explore(loaded, text, layers=[2, 4], methods=methods).models
    for name, label in (("residual", "a"), ("rollout", "b")):
        method = TokenContribution(loaded.model, loaded.tokenizer, method=name)
        spans = method.attribute_spans(
            text, list(range(1, 6)), list(range(6)), layer=[2, 4], score="energy", position="token", self_token="zero"
        )
        for alone in spans:
            part = torch.from_numpy(found.maps[label, alone.layer][1:])
            torch.testing.assert_close(part, alone.matrix.float(), rtol=1e-4, atol=1e-6)
    for layer in (2, 4):
        assert (found.maps["object", layer] == found.maps["b", layer]).all()
        assert (found.maps["class", layer] < 0).any() and not found.maps["class", layer].diagonal().any()
    with pytest.raises(TypeError, match="Saliency explains images"):
        explore(loaded, text, methods={"other": Saliency})


def test_comparing(model: nn.Module, image: torch.Tensor) -> None:
    assert explore(model, image, compare=["sum", "energy"]).views == (
        (0, "ULTra, sum score"),
        (0, "ULTra, energy score"),
    )
    other = VisionTransformer(ViTConfig(image_size=8, dim=16, depth=2, heads=2)).eval()
    page = explore({"a": model, "b": other}, {"a": image, "b": torch.randn(3, 8, 8)}, segmentation=False)
    assert [each.name for each in page.models] == ["a", "b"] and page.title == "Tokens of a, b"
    assert [each.grid for each in page.models] == [(4, 4), (2, 2)] and not page.models[0].merges


def test_a_loaded_model_prepares_its_picture() -> None:
    loaded = load_model("scenes-vit")
    small = LoadedModel(
        VisionTransformer(ViTConfig(image_size=16, dim=16, depth=1, heads=2)).eval(),
        "small",
        lambda picture: loaded.preprocess(picture)[..., :16, :16],
        loaded.mean,
        loaded.std,
    )
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    (found,) = explore(small, picture).models
    assert np.abs(255 * found.picture - np.asarray(picture)[:16, :16]).max() < 0.51


def test_a_picture_of_bytes_is_shown_as_it_is(model: nn.Module, image: torch.Tensor) -> None:
    bytes_of = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    for form in (bytes_of, torch.from_numpy(bytes_of).permute(2, 0, 1), Image.fromarray(bytes_of)):
        (found,) = explore(model, image, layers=[1], picture=form, segmentation=False).models
        np.testing.assert_allclose(255 * found.picture, bytes_of, rtol=1e-5)


def test_text_maps_are_those_of_token_contribution() -> None:
    loaded = load_model("facts-llama")
    context, summary = "Mara lives in Rome.", " Mara is in Italy."
    (found,) = explore(loaded, (context, summary), layers=[2, 4], methods=["energy"]).models
    method = TokenContribution(loaded.model, loaded.tokenizer, method="ultra")
    for layer in (2, 4):
        alone = method.attribute(context, summary, layer=layer, score="energy", position="token")
        part = found.maps["ULTra, energy score", layer][alone.target_positions][:, alone.source_positions]
        torch.testing.assert_close(torch.from_numpy(part), alone.matrix.float())
    (last,) = explore(loaded, (context, summary), layers=[2], methods=["energy"], targets="last").models
    assert last.targets == tuple(alone.target_positions.tolist())


def test_pieces_are_the_text() -> None:
    loaded = load_model("facts-llama")
    said, _ = told(explore(loaded, ("Mara lives in Rome.  Omar.", " Mara!"), layers=[1], methods=["sum"]))
    for part, text in zip(
        said["models"][0]["parts"], ("Mara lives in Rome.  Omar.", "\nTL;DR:", " Mara!"), strict=True
    ):
        for pieces in part["levels"].values():
            assert "".join(words for words, _, _ in pieces) == text
    numbers = {
        level: sorted(
            t for part in said["models"][0]["parts"] for _, _, tokens in part["levels"][level] for t in tokens
        )
        for level in ("token", "word", "sentence")
    }
    assert numbers["token"] == numbers["word"] == numbers["sentence"] == list(range(1, said["models"][0]["tokens"]))


def test_a_page_asks_nothing_of_the_network_and_holds_no_foreign_markup(model: nn.Module, image: torch.Tensor) -> None:
    page = explore({"</script><img src=x>": model}, image, title="</title><script>alert(1)</script>")
    html = page.to_html()
    assert "<img src=x>" not in html and "<script>alert" not in html
    assert "default-src 'none'" in html
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?(?:https?:)?//""", html)


def test_a_large_page_is_stored_in_coarser_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    page = Explorer.of([image_sample()], "large")
    monkeypatch.setattr("captum_ultra.insights.explorer.explorer._LARGE", 16_000)
    assert told(page)[0]["models"][0]["levels"] < 255
    monkeypatch.setattr("captum_ultra.insights.explorer.explorer._LARGE", 100)
    with pytest.warns(UserWarning, match="fewer layers"):
        page.to_html()


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"methods": []}, ValueError, "at least one"),
        ({"methods": "sum"}, TypeError, "list of names"),
        ({"methods": ["none"]}, ValueError, "'none' is unknown; known are ultra.*'sum' and 'energy' are ULTra"),
        ({"methods": [LatentTokenAttribution]}, TypeError, "in a dict"),
        ({"methods": ["energy", ("ultra", "energy")]}, ValueError, "each of them once"),
        ({"methods": {"a": {}}}, TypeError, "from layer to a tensor"),
        ({"methods": {"a": {2: torch.zeros(16, 16)}}}, ValueError, r"layers \[1, 3\] are missing"),
        ({"methods": {"a": {each: torch.zeros(4, 4) for each in (1, 2, 3)}}}, ValueError, r"\[16, 16\]"),
        ({"methods": {"a": {each: torch.full((16, 16), torch.nan) for each in (1, 2, 3)}}}, ValueError, "finite"),
        ({"compare": ["sum"]}, ValueError, "at least two"),
        ({"compare": ["sum", "other"]}, ValueError, "no method 'other'"),
        ({"layers": []}, ValueError, "empty list"),
        ({"layers": [4]}, ValueError, "4"),
        ({"targets": "some"}, ValueError, "possible"),
        ({"picture": torch.zeros(4, 4)}, ValueError, r"\[H, W, 3\]"),
        ({"picture": 255 * torch.ones(3, 4, 4)}, ValueError, "255; expected bytes, or floating point in 0..1"),
        ({"inputs": torch.zeros(2, 3, 16, 16)}, ValueError, "one image"),
        ({"inputs": 3}, TypeError, "image tensor"),
        ({"inputs": ("a", "b", "c")}, TypeError, "two strings"),
        ({"inputs": {"a": torch.zeros(3, 16, 16)}}, ValueError, "inputs of"),
        ({"inputs": Image.new("RGB", (4, 4))}, ValueError, "load_model"),
        ({"inputs": "a text"}, ValueError, "tokenizer"),
        ({"model": {}}, ValueError, "empty dict"),
        ({"model": 3}, TypeError, "torch module"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_is_told(
    model: nn.Module, image: torch.Tensor, arguments: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        explore(**{"model": model, "inputs": image, **arguments})


def test_explorers_of_maps() -> None:
    sample = image_sample()
    with pytest.raises(ValueError, match="no method"):
        Explorer.of([sample], "title", ["other", *METHODS])
    with pytest.raises(ValueError, match="at least one"):
        Explorer.of([], "title")
