"""Models that were compiled, made under inference mode, or never filled; maps are those of the plain model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from torch import Tensor, nn

from captum_ultra import ConservativeLRP, LatentTokenAttribution, LeGrad, UnsupportedModelError
from captum_ultra.attr.latents import LatentReader
from captum_ultra.attr.methods import METHODS, method_class
from tests.attr.models import images, small_classifier, text, vit
from tests.attr.test_models_as_found import assert_same, state_of
from tests.builders import case_named


def never(graph: Any, inputs: Any) -> Any:
    raise AssertionError("compiled")


def blocks_compiled(model: Any) -> None:
    for block in model.blocks:
        block.compile(backend=never)


def blocks_wrapped(model: Any) -> None:
    for number, block in enumerate(model.blocks):
        model.blocks[number] = torch.compile(block, backend=never)


def model_compiled(model: Any) -> None:
    model.compile(backend=never, fullgraph=True)


def parts_compiled(model: Any) -> None:
    for block in model.blocks:
        block.mlp = torch.compile(block.mlp, backend=never)


def functions_compiled(model: Any) -> None:
    model.forward = torch.compile(model.forward, backend=never)
    for block in model.blocks:
        block.forward = torch.compile(block.forward, backend=never)


COMPILED = [blocks_compiled, blocks_wrapped, model_compiled, parts_compiled, functions_compiled]


def explain(model: nn.Module, name: str, inputs: Tensor, **options: Any) -> Tensor:
    return method_class(name)(model).attribute(inputs, token=[1, 3], layer=2, output="tokens", **options)


@pytest.mark.parametrize("make", COMPILED, ids=lambda make: make.__name__)
@pytest.mark.parametrize("name", ["gae", "legrad", "lrp", "conservative_lrp"])
def test_compiled_parts_run_as_they_were_written(name: str, make: Callable[[Any], None]) -> None:
    model = vit()
    expected, latents = explain(model, name, images()), LatentReader(model, 1)(images())
    make(model)
    calls = [module._compiled_call_impl for module in model.modules()]
    assert torch.equal(explain(model, name, images()), expected)
    assert torch.equal(LatentReader(model, 1)(images()), latents)
    assert [module._compiled_call_impl for module in model.modules()] == calls
    with pytest.raises(Exception, match="compiled"):  # for everybody else they are what they were
        model(images())


@pytest.mark.parametrize("make", COMPILED, ids=lambda make: make.__name__)
def test_compiled_parts_are_refused_where_torch_hides_what_was_written(make: Callable[[Any], None]) -> None:
    model, plain = vit(), vit()
    make(model)
    with mock.patch("captum_ultra.adapters.resolve.uncompiled_is_possible", lambda: False):
        with pytest.raises(UnsupportedModelError, match=r"Vit is compiled \(.*explain the model before torch\.compile"):
            LatentTokenAttribution(model)
        LatentTokenAttribution(plain).attribute(images())


@pytest.mark.parametrize("name", METHODS)
def test_a_model_made_under_inference_mode(name: str) -> None:
    plain = small_classifier()
    with torch.inference_mode():
        model, inputs = small_classifier(), images()
    before = {key: (each.requires_grad, each.is_inference()) for key, each in model.named_parameters()}
    for x in (images(), inputs):
        assert torch.equal(explain(model, name, x), explain(plain, name, images()))
        found, expected = (method_class(name)(each).attribute(x, target=1) for each in (model, plain))
        assert torch.equal(found, expected)
    assert {key: (each.requires_grad, each.is_inference()) for key, each in model.named_parameters()} == before
    assert all(requires_grad for requires_grad, _ in before.values())


class Masked(nn.Module):
    """Reads its mask from a dict, and needs it for its backward pass."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = text()

    def forward(self, ids: Tensor, masks: dict[str, list[Tensor]]) -> Tensor:
        x = self.inner.embed(ids)
        for block in self.inner.blocks:
            x = block(x).masked_fill(~masks["seen"][0], 0.5) * masks["scale"][0]
        return x


@pytest.mark.parametrize("name", METHODS)
def test_masks_made_under_inference_mode(name: str) -> None:
    ids, model = torch.randint(0, 11, (2, 6)), Masked()

    def masks() -> dict[str, Any]:
        seen = torch.arange(6)[None, :, None] < torch.tensor([6, 4])[:, None, None]
        return {"masks": {"seen": [seen], "scale": [torch.full((6, 1), 0.5)]}}

    with torch.inference_mode():
        given = masks()
    found, expected = (explain(model, name, ids, additional_forward_args=each) for each in (given, masks()))
    assert torch.equal(found, expected)


def test_a_mask_of_a_library_made_under_inference_mode() -> None:
    case = case_named("hf-BertModel-sdpa")
    model, ids = case.model(), case.inputs()
    mask = torch.ones_like(ids)
    mask[0, 6:] = 0
    with torch.inference_mode():
        given = mask.clone()
    for name in ("gae", "lrp", "residual_lrp"):
        expected = explain(model, name, ids, additional_forward_args=mask)
        for extra in (given, {"attention_mask": given}):
            assert torch.equal(explain(model, name, ids, additional_forward_args=extra), expected)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("no_grad", [True, False])
def test_padding_of_the_encoder_of_torch(no_grad: bool) -> None:
    """Which makes nested tensors of it where nothing needs a gradient."""
    layer = nn.TransformerEncoderLayer(32, 4, dim_feedforward=64, batch_first=True)
    nested = nn.TransformerEncoder(layer, 3).requires_grad_(not no_grad).eval()
    padded = nn.TransformerEncoder(layer, 3, enable_nested_tensor=False).eval()
    padded.load_state_dict(nested.state_dict())
    x, padding = torch.randn(2, 9, 32), torch.arange(9) >= torch.tensor([[6], [9]])
    extra, score = {"src_key_padding_mask": padding}, torch.randn(32)
    with torch.no_grad():
        assert not nested(x, **extra)[0, 6:].any()  # as nested tensors leave it
    for explain_one in (
        lambda model: LatentReader(model, 2)(x, extra),
        lambda model: LatentTokenAttribution(model).attribute(x, token=1, score=score, additional_forward_args=extra),
        lambda model: ConservativeLRP(model).attribute(x, token=1, additional_forward_args=extra),
        lambda model: LeGrad(model, head=lambda z: z[:, 0]).attribute(x, target=1, additional_forward_args=extra),
    ):
        assert torch.equal(explain_one(nested), explain_one(padded))


def test_a_model_without_values_is_refused_before_anything_runs() -> None:
    with torch.device("meta"):
        model = vit()
    partly: Any = vit()
    partly.blocks[1].mlp.to("meta")
    for each, name in ((model, "cls"), (partly, "blocks.1.mlp.0.weight")):
        with pytest.raises(
            UnsupportedModelError, match=rf"no values for {name}, .*meta device.*to_empty.*load_state_dict"
        ):
            LatentTokenAttribution(each)
        each.to_empty(device="cpu").load_state_dict(vit().state_dict())
        assert torch.equal(explain(each, "gae", images()), explain(vit(), "gae", images()))


def test_a_model_that_changed_between_two_calls() -> None:
    model: Any = vit()
    lta = LatentTokenAttribution(model)
    lta.attribute(images())
    model.blocks[1] = vit(1).blocks[1]
    assert torch.equal(lta.attribute(images()), LatentTokenAttribution(model).attribute(images()))
    model.load_state_dict(vit(2).state_dict())
    assert torch.equal(lta.attribute(images()), LatentTokenAttribution(vit(2)).attribute(images()))
    assert_same(state_of(model), state_of(vit(2)))


def test_a_direction_made_under_inference_mode() -> None:
    model, inputs = vit(), torch.randn(1, 3, 16, 16)
    direction = torch.linspace(-1, 1, 16)
    with torch.inference_mode():
        made = direction + 0
        found = LatentTokenAttribution(model).attribute(inputs, token=3, score=made)
    assert torch.equal(found, LatentTokenAttribution(model).attribute(inputs, token=3, score=direction))
