"""What is said of a model is what happens when it is explained."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from typer.testing import CliRunner

import captum_ultra
from captum_ultra import describe
from captum_ultra.attr.methods import METHODS
from captum_ultra.cli import app
from tests.adapters.test_probe import DIM, Block, Staged, odd
from tests.attr.models import small_classifier
from tests.builders import case_named


def test_a_classifier() -> None:
    found = describe(small_classifier(), torch.randn(2, 3, 16, 16), methods=True, cost=True)
    assert (found.blocks, found.container) == (("blocks.0", "blocks.1", "blocks.2"), "blocks")
    assert found.layout is not None and (found.layout.prefix, found.layout.grid) == (1, (4, 4))
    assert dict(found.latents) == dict(found.classes) == dict.fromkeys(METHODS)
    assert found.cost is not None and found.cost.forward > 0 and found.cost.first > found.cost.more
    assert found.tiles and f"long inputs   attention's gradients by {found.tiles}" in str(found)
    assert "tokens        17: 1 before a grid of 4 x 4 patches" in str(found)


def test_what_a_method_refuses_is_what_it_says() -> None:
    case = case_named("hf-BertModel-sdpa")
    model, ids = case.model(), case.inputs()
    mask = torch.ones_like(ids)
    mask[1, -2:] = 0
    found = describe(model, ids, additional_forward_args=mask, cost=False)
    assert found.padding == (0, 2) and "padding of each sample: 0, 2" in str(found)
    reason = found.latents["token_tm"]
    assert reason is not None
    with pytest.raises(captum_ultra.UnsupportedModelError) as refused:
        captum_ultra.TokenTM(model).attribute(ids, token=4, layer=-1, additional_forward_args=mask)
    assert str(refused.value) == reason and f"not token_tm: {reason}" in str(found)
    assert found.latents["gae"] is None and "features, not class scores" in (found.classes["gae"] or "")


def test_a_model_that_cannot_be_explained() -> None:
    found = describe(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), torch.randn(1, 3, 8, 8))
    assert found.refusal is not None and "ran no softmax attention" in str(found)
    assert found.cost is None and not found.latents
    with pytest.raises(TypeError, match="inputs"):
        describe(small_classifier(), "a picture")  # type: ignore[arg-type]


def test_a_part_of_a_model() -> None:
    model, images = Staged(3, 2), torch.randn(1, 3, 32, 32)
    assert "do not hold all attention" in str(describe(model, images))
    with pytest.warns(UserWarning, match="do not hold all"):
        found = describe(model, images, blocks="first", methods=False, cost=False)
    assert found.left_out == ("second.0", "second.1") and "left out      behind or before" in str(found)


def test_rows_without_a_picture() -> None:
    model = nn.Sequential(*[Block(odd()) for _ in range(2)])
    assert "5; no map on a picture: the input is a sequence" in str(
        describe(model, torch.randn(1, 5, DIM), methods=False, cost=False)
    )


def test_on_the_command_line() -> None:
    described = CliRunner().invoke(app, ["describe", "scenes-vit", "--no-methods"])
    assert described.exit_code == 0 and "6, from blocks.0 to blocks.5" in described.output
    refused = CliRunner().invoke(app, ["describe", "timm:resnet10t", "--random-weights"])
    assert refused.exit_code == 1 and "resnet10t (random weights)" in refused.output
    assert "cannot be explained: ResNet ran no softmax attention" in refused.output
