"""The methods of layer-wise relevance propagation on library models, against every step written out, in float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra import LRP, ConservativeLRP, PartialLRP, TransformerAttribution, UnsupportedModelError
from tests.attr.told import TARGETS, attribute, told
from tests.builders import case_named, timm_models
from tests.builders.classifiers import CLASSIFIERS, Classifier, classifier_named
from tests.reference import class_methods
from tests.reference import lrp as reference
from tests.reference.lrp_models import read
from tests.reference.recording import explicit_attention

pytestmark = pytest.mark.filterwarnings("ignore:little is left in a map:UserWarning")
RULES = {"conserving": reference.CONSERVING, "published": reference.PUBLISHED}


@cache
def explained(classifier: Classifier, rules: str) -> list[reference.Explained]:
    """What the reference makes of every sample."""
    run, encoder = told(classifier), read(classifier, told(classifier).model)
    samples = run.recording.latents[0].detach() if encoder.patches is None else run.inputs
    return [reference.explain(encoder, *each, RULES[rules]) for each in zip(samples, TARGETS, strict=True)]


def close(classifier: Classifier, found: Tensor, want: Tensor) -> None:
    """The eager attention of transformers computes its softmax in float32."""
    relative, of_largest = (1e-3, 1e-3) if "eager" in classifier.name else (1e-6, 1e-8)
    torch.testing.assert_close(found, want, rtol=relative, atol=of_largest * want.abs().max().item())


def read_at(classifier: Classifier) -> Tensor:
    """Weights [B, n] of the tokens where the targets are read."""
    run = told(classifier)
    return class_methods.read_by_gradient(run.recording, run.score(), classifier.readout)


every = pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda each: each.name)
both = pytest.mark.parametrize("rules", RULES)


@every
@both
def test_lrp_and_partial_lrp_equal_those_written_out(classifier: Classifier, rules: str) -> None:
    expected = explained(classifier, rules)
    tokens = attribute("LRP", classifier, rules=rules)
    close(classifier, tokens, torch.stack([each.streams[0].sum(-1) for each in expected]))
    if classifier.case.grid:
        pixels = torch.stack([each.pixels for each in expected])  # type: ignore[misc]
        close(classifier, attribute("LRP", classifier, "channels", rules=rules), pixels)
        close(classifier, attribute("LRP", classifier, "input", rules=rules), pixels.sum(1, keepdim=True))
    partial = torch.stack([reference.partial_lrp(*each) for each in zip(expected, read_at(classifier), strict=True)])
    close(classifier, attribute("PartialLRP", classifier, rules=rules), partial)
    assert partial.abs().max() > 1e-6


@pytest.mark.parametrize("method", ["LRP", "PartialLRP"])
def test_the_two_sets_of_rules_are_different_methods(method: str) -> None:
    """On some images they even disagree."""
    classifier = classifier_named("shipped-classifier")
    maps = zip(*(attribute(method, classifier, rules=rules) for rules in RULES), strict=True)
    assert min(torch.corrcoef(torch.stack(pair))[0, 1] for pair in maps) < -0.2
    with pytest.raises(ValueError, match="rules='chefer' is unknown; possible: 'conserving', 'published'"):
        attribute(method, classifier, rules="chefer")


@every
def test_transformer_attribution_equals_the_one_written_out(classifier: Classifier) -> None:
    run, relevance = told(classifier), explained(classifier, "conserving")
    patches = range(classifier.case.prefix, classifier.case.tokens)
    by_sample: Any = list(zip(*class_methods.gradients(run.recording, run.score()), strict=True))
    for start in (1, 0, -1):
        rows = [
            reference.transformer_attribution(each, gradients, weights, start, patches)
            for each, gradients, weights in zip(relevance, by_sample, read_at(classifier), strict=True)
        ]
        close(classifier, attribute("TransformerAttribution", classifier, start_layer=start), torch.stack(rows))


@contextmanager
def detached() -> Iterator[None]:
    """Attention probabilities and standard deviations are constants of the graph, wherever they are computed."""
    softmax = torch.Tensor.softmax

    def attend(q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return explicit_attention(q, k, v, *args, **kwargs)[1].detach() @ v

    def probabilities(scores: Tensor, dim: int, **kwargs: Any) -> Tensor:
        return softmax(scores, dim, **kwargs).detach()

    def norm(x: Tensor, shape: Any, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
        assert len(shape) == 1
        deviation = (x.var(-1, unbiased=False, keepdim=True) + eps).sqrt().detach()
        return (x - x.mean(-1, keepdim=True)) / deviation * weight + bias

    with (
        mock.patch.object(F, "scaled_dot_product_attention", attend), mock.patch.object(F, "softmax", probabilities),
        mock.patch.object(F, "layer_norm", norm),
    ):  # fmt: skip
        yield


@every
def test_conservative_lrp_equals_gradient_times_input_of_the_detached_model(classifier: Classifier) -> None:
    run, case = told(classifier), classifier.case
    streams: list[Tensor] = []
    blocks = list(run.model.get_submodule(case.blocks))
    handle = blocks[0].register_forward_pre_hook(lambda module, args: streams.append(args[0]))
    with detached(), mock.patch.object(torch.backends.mha, "get_fastpath_enabled", lambda: False):
        run.model.requires_grad_(True)
        logits = classifier.logits(run.model, case.call(run.model, run.inputs))
        run.model.requires_grad_(False)
    handle.remove()
    (gradient,) = torch.autograd.grad(run.score(logits=logits), streams)
    close(classifier, attribute("ConservativeLRP", classifier), (gradient * streams[0].detach()).sum(-1))


def test_conservative_lrp_keeps_all_of_the_score_where_nothing_but_relu_bends_it() -> None:
    """T5: no biases, root-mean-square norms of its own, ReLU; the relevance of the tokens is the score itself."""
    case = case_named("hf-T5EncoderModel-eager")
    model, inputs = case.model(torch.float64), case.inputs()

    def head(output: Any) -> Tensor:
        return output.last_hidden_state[:, 0, :5]

    rows = ConservativeLRP(model, head=head).attribute(inputs, target=TARGETS)
    scores = head(model(inputs)).gather(1, torch.tensor(TARGETS)[:, None])[:, 0]
    torch.testing.assert_close(rows.sum(1), scores.detach(), rtol=1e-6, atol=1e-9)


class OwnNorm(nn.Module):
    """A normalisation by operations that no rule names."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)


@pytest.mark.parametrize("method", [LRP, ConservativeLRP])
def test_normalisations_of_a_models_own_are_refused_by_name(method: Any) -> None:
    model = timm_models.build("vit_small_patch16_224", patch_size=8)
    model.blocks[2].norm1 = OwnNorm()
    with pytest.raises(UnsupportedModelError, match="OwnNorm"):
        method(model).attribute(torch.randn(1, 3, 32, 32), target=0)


@pytest.mark.parametrize("method", [LRP, PartialLRP, TransformerAttribution])
def test_half_precision_is_refused_where_divisions_would_make_other_maps_of_it(method: Any) -> None:
    case = classifier_named("timm-classifier-vit").case
    with pytest.raises(ValueError, match=r"model\.float"):
        method(case.model(torch.bfloat16)).attribute(case.inputs(torch.bfloat16), target=0)


def test_conservative_lrp_stands_half_precision() -> None:
    case = classifier_named("timm-classifier-vit").case
    half, exact = (
        ConservativeLRP(case.model(dtype)).attribute(case.inputs(dtype), target=0, output="tokens")
        for dtype in (torch.bfloat16, torch.float32)
    )
    assert half.dtype == torch.float32 and F.cosine_similarity(exact, half, dim=1).min() > 0.99


@pytest.mark.parametrize("method", [LRP, TransformerAttribution, ConservativeLRP])
def test_a_trainable_head_is_a_constant(method: Any) -> None:
    tower = classifier_named("open_clip-classifier-tower").case.model()
    head, images = nn.Linear(16, 4), torch.randn(2, 3, 32, 32)
    found = method(tower, head=head).attribute(images, target=1)
    frozen = method(tower, head=head.requires_grad_(False)).attribute(images, target=1)
    torch.testing.assert_close(found, frozen)
    assert head.weight.grad is None


def test_patches_get_the_sum_of_their_pixels() -> None:
    """No norm stands between the pixels and the first block of this model, and positions take no relevance."""
    classifier = classifier_named("timm-classifier-vit")
    summed = F.avg_pool2d(attribute("LRP", classifier, "input"), 8, divisor_override=1).flatten(1)
    torch.testing.assert_close(attribute("LRP", classifier, "patches"), summed, rtol=1e-4, atol=1e-7)
