"""Captum Insights with the methods of the package: over HTTP, as its page asks; needs a captum that ships it."""

from __future__ import annotations

import base64
import json
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from captum_ultra import LatentTokenAttribution
from captum_ultra.insights.captum_insights import register, unregister
from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig

SHIPPED = find_spec("captum.insights") is not None
here = pytest.mark.skipif(not SHIPPED, reason="this captum ships no Insights; `make insights-test` runs these tests")


@pytest.mark.skipif(SHIPPED, reason="this captum ships Insights")
@pytest.mark.parametrize("call", [register, unregister])
def test_without_insights_the_error_says_what_to_use(call: Any) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"captum 0\.\d+\.\d+ has no Insights.*TokenVisualizer.*explore"):
        call()


class Server:
    """Asks the server that `insights_server.py` runs."""

    def __init__(self, address: str) -> None:
        self.address = address

    def __call__(self, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.address + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.read()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    script = Path(__file__).with_name("insights_server.py")
    command = [sys.executable, "-u", "-W", "ignore", str(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            found = (re.search(r"http://localhost:(\d+)", line) for line in process.stdout)
            port = next(match[1] for match in found if match)
            asking = Server(f"http://127.0.0.1:{port}")
            _wait(asking)
            yield asking
        finally:
            process.kill()


def _wait(server: Server) -> None:
    """Captum prints the address a little before it listens there."""
    port, last = int(server.address.rpartition(":")[2]), time.monotonic() + 30
    while time.monotonic() < last:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise TimeoutError("the server does not answer")


@here
def test_the_page_is_served(server: Server) -> None:
    assert b"<script" in server("/")


@here
def test_the_methods_and_their_arguments_are_offered(server: Server) -> None:
    offered = json.loads(server("/init"))
    assert set(register()) < set(offered["methods"]) and "Saliency" in offered["methods"]
    arguments = offered["method_arguments"]["LatentTokenAttribution"]
    assert {name: each["type"] for name, each in arguments.items()} == {
        "token": "string", "layer": "number", "score": "enum",
    }  # fmt: skip
    assert arguments["score"]["limit"] == ["sum", "energy"] and arguments["layer"]["value"] == -1


@here
@pytest.mark.parametrize("method", register() if SHIPPED else ())
def test_every_method_is_computed_and_drawn(server: Server, method: str) -> None:
    offered = json.loads(server("/init"))["method_arguments"][method]
    arguments = {name: each["value"] for name, each in offered.items()}
    samples = fetch(server, method, arguments)
    assert len(samples) == 4 and all(picture(sample) for sample in samples)
    again = json.loads(server("/attribute", {"inputIndex": 0, "modelIndex": 0, "labelIndex": 3}))
    assert again["active_index"] == 3 and picture(again)


@here
def test_tokens_layers_and_scores_of_the_page_reach_the_method(server: Server) -> None:
    """What is typed is text; two numbers are a patch. Different choices give different pictures."""
    choices = [("0", "-1", "sum"), ("3", 1, "sum"), ("1 2", 2, "sum"), ("1 2", 2, "energy")]
    drawn = {
        picture(fetch(server, "LatentTokenAttribution", {"token": token, "layer": layer, "score": score})[0])
        for token, layer, score in choices
    }
    assert len(drawn) == len(choices)


@here
def test_a_map_without_any_relevance_is_drawn_too(server: Server) -> None:
    """The CLS token at the embedding holds nothing of the patches; Captum's drawing fails on zeros."""
    samples = fetch(server, "LatentTokenAttribution", {"token": "0", "layer": 0, "score": "sum"})
    assert len(samples) == 4


@here
def test_captums_own_methods_go_on_working(server: Server) -> None:
    assert len(fetch(server, "Saliency", {})) == 4


def fetch(server: Server, method: str, arguments: dict[str, Any]) -> list[Any]:
    """What the page gets for its first samples: for each sample a list with one entry a model."""
    settings = {"attribution_method": method, "arguments": arguments, "prediction": "all", "classes": []}
    return [models[0] for models in json.loads(server("/fetch", settings))]


def picture(sample: Any) -> bytes:
    """The PNG of the first feature's map."""
    data = base64.b64decode(sample["feature_outputs"][0]["modified"])
    assert data.startswith(b"\x89PNG")
    return data


@pytest.fixture
def methods() -> Iterator[dict[str, Any]]:
    """Captum's table of methods, empty of ours before and after."""
    from captum.insights.attr_vis import config

    unregister()
    yield config.ATTRIBUTION_NAMES_TO_METHODS
    unregister()


@here
def test_registering_twice_is_registering_once_and_can_be_undone(methods: dict[str, Any]) -> None:
    from captum.insights.attr_vis import config

    before, arguments = dict(methods), dict(config.ATTRIBUTION_METHOD_CONFIG)
    names = register()
    first = dict(methods)
    assert register() == names and methods == first and set(first) == {*before, *names}
    unregister()
    unregister()
    assert methods == before and arguments == config.ATTRIBUTION_METHOD_CONFIG


@here
def test_maps_have_the_shape_of_the_input_and_the_values_of_the_method(methods: dict[str, Any]) -> None:
    register()
    model = ViTClassifier(ViTClassifierConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
    images = torch.rand(1, 3, 16, 16)
    ours = methods["LatentTokenAttribution"](model)
    arguments = {"token": "1 2", "layer": 1, "score": "sum"}
    (found,) = ours.attribute.__wrapped__(ours, (images,), additional_forward_args=None, target=torch.tensor(3),
                                          **arguments)  # fmt: skip
    expected = LatentTokenAttribution(model).attribute(images, token=(1, 2), layer=1, score="sum")
    assert found.shape == images.shape
    torch.testing.assert_close(found.sum(1, keepdim=True), expected)


@here
def test_the_class_of_the_page_is_explained(methods: dict[str, Any]) -> None:
    from captum_ultra import GenericAttention

    register()
    model = ViTClassifier(ViTClassifierConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
    images = torch.rand(1, 3, 16, 16)
    ours = methods["GenericAttention"](model)
    (found,) = ours.attribute.__wrapped__(ours, (images,), additional_forward_args=None, target=torch.tensor(4))
    torch.testing.assert_close(found.sum(1, keepdim=True), GenericAttention(model).attribute(images, target=4))
