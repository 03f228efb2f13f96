"""One run of a model serves every method, layer and target that can share it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

import captum_ultra
from captum_ultra.adapters import ModelViews
from captum_ultra.attr.attribution import attribute_all
from captum_ultra.attr.methods import METHODS, method_class
from tests.attr.models import small_classifier
from tests.builders.classifiers import classifier_named

# Methods that share their runs, and how many these are: attention with gradients, relevance of tokens, of pixels, and
# two linear maps. LeGrad reads the class off lower layers as well, by the rest of the model.
SHARED = [
    ("raw_attention rollout gae grad_cam attcat token_tm", 1), ("gae partial_lrp transformer_attribution", 2),
    ("lrp", 1), ("conservative_lrp", 1), ("residual_lrp", 1), ("gae legrad", 2), (" ".join(METHODS), 6),
]  # fmt: skip


@pytest.mark.parametrize("name", ["shipped-classifier", "hf-ViTForImageClassification-sdpa"])
def test_all_methods_together_are_what_each_is_alone(name: str) -> None:
    case = classifier_named(name).case
    model, inputs = case.model(torch.float64), case.inputs(torch.float64)
    alone = {each: method_class(each)(model).attribute(inputs, target=1) for each in METHODS}
    found = dict(attribute_all({each: method_class(each)(model) for each in METHODS}, inputs, target=1))
    assert found.keys() == alone.keys()
    for each, maps in found.items():
        assert isinstance(maps, Tensor), maps
        torch.testing.assert_close(maps, alone[each], rtol=1e-12, atol=1e-12 * alone[each].abs().max().item())


@pytest.mark.parametrize(("names", "expected"), SHARED)
def test_methods_of_one_kind_share_one_run(names: str, expected: int) -> None:
    model, runs = small_classifier(), list[str]()
    methods = {each: method_class(each)(model, blocks="blocks") for each in names.split()}
    model.register_forward_hook(lambda *_: runs.append("ran"))
    ModelViews(model, "blocks")(torch.randn(2, 3, 16, 16))  # the probe, once for all
    runs.clear()
    found = dict(attribute_all(methods, torch.randn(2, 3, 16, 16)))
    assert all(isinstance(maps, Tensor) for maps in found.values())
    assert len(runs) == expected


def test_a_method_that_cannot_explain_a_model_says_why_and_leaves_the_others() -> None:
    case = classifier_named("hf-BertForSequenceClassification-sdpa").case
    model, inputs = case.model(), case.inputs()
    methods = {each: method_class(each)(model) for each in ("gae", "token_tm", "rollout")}
    found = dict(attribute_all(methods, inputs, target=1))
    assert isinstance(found["token_tm"], captum_ultra.UnsupportedModelError)
    assert torch.equal(found["gae"], methods["gae"].attribute(inputs, target=1))  # type: ignore[arg-type]
    assert torch.equal(found["rollout"], methods["rollout"].attribute(inputs, target=1))  # type: ignore[arg-type]


@pytest.mark.parametrize(("name", "kinds"), [("gae", 1), ("legrad", 1), ("residual_lrp", 1), ("partial_lrp", 2)])
def test_layers_and_targets_of_latents_share_their_runs(name: str, kinds: int) -> None:
    model, inputs = small_classifier().double(), torch.randn(2, 3, 16, 16, dtype=torch.float64)
    method = method_class(name)(model, blocks="blocks")
    options: dict[str, Any] = {"token": [1, 5], "output": "tokens", "score": "energy"}
    starts: list[Any] = []
    model.blocks[0].register_forward_pre_hook(lambda *args: starts.append(args))
    alone = [method.attribute(inputs, layer=layer, **options) for layer in (3, 1, 2)]
    starts.clear()
    together = method.attribute(inputs, layer=[3, 1, 2], **options)
    assert len(starts) == kinds
    for one, other in zip(together, alone, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
