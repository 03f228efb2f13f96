"""Whole vision transformers of three libraries against relevance propagated by hand, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from captum_ultra.relevance.lrp import input_relevance, stream_relevance
from tests.builders import case_named
from tests.reference.lrp import Explained, explain_vit, forward_vit
from tests.reference.lrp_models import read_deit, read_hf, read_open_clip, read_timm

READERS: dict[str, Callable[[Any], Any]] = {
    "timm-vit": read_timm,
    "timm-vit-nonsquare": read_timm,
    "timm-deit-distilled": read_deit,
    "hf-ViTForImageClassification-sdpa": read_hf,
    "hf-DeiTModel-sdpa": read_hf,
    "open_clip-vision-tower": read_open_clip,
}
TARGETS = (1, 0)


def scores(output: Any) -> Tensor:
    """[B, K] of what a model returned."""
    for name in ("logits", "pooler_output"):
        output = getattr(output, name, output)
    return output


def explained(output: Any) -> Tensor:
    return scores(output).gather(1, torch.tensor(TARGETS)[:, None])[:, 0]


@pytest.fixture(scope="module", params=list(READERS))
def problem(request: pytest.FixtureRequest) -> tuple[Any, Any, Tensor, list[Explained]]:
    """A case, its model, two images, and what the reference makes of each."""
    case = case_named(request.param)
    model, images = case.model(torch.float64), case.inputs(torch.float64)
    plain = READERS[request.param](model)
    with torch.no_grad():
        output = torch.stack([forward_vit(plain, image)[0] for image in images])
        torch.testing.assert_close(output, scores(model(images)), rtol=1e-10, atol=1e-10)
    return case, model, images, [explain_vit(plain, *each) for each in zip(images, TARGETS, strict=True)]


def test_the_pixels_get_what_the_reference_gives_them(problem: Any) -> None:
    _, model, images, reference = problem
    found = input_relevance(model, model, images, explained)
    torch.testing.assert_close(found, torch.stack([each.pixels for each in reference]), rtol=1e-6, atol=1e-9)


def test_streams_and_attention_maps_get_what_the_reference_gives_them(problem: Any) -> None:
    case, model, images, reference = problem
    blocks = list(model.get_submodule(case.blocks))
    for first in (0, 2):
        found = stream_relevance(lambda: model(images), model, blocks, explained, first=first)
        expected = torch.stack([each.streams[first] for each in reference])
        torch.testing.assert_close(found.relevance, expected, rtol=1e-6, atol=1e-9)
        assert sorted(found.maps) == list(range(first, len(blocks)))
        for block, maps in found.maps.items():
            rows = torch.stack([maps.row(row) for row in range(case.tokens)], dim=2)
            expected = torch.stack([each.maps[block] for each in reference])
            torch.testing.assert_close(rows, expected, rtol=1e-6, atol=1e-9)
