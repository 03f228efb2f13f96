"""The methods of layer-wise relevance propagation on library models, against every step written out, in float64."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra import LRP, ConservativeLRP, PartialLRP, TransformerAttribution, UnsupportedModelError
from tests.builders import case_named, timm_models
from tests.builders.classifiers import CLASSIFIERS, Classifier, classifier_named
from tests.reference import class_methods
from tests.reference import lrp as reference
from tests.reference.lrp_models import read
from tests.reference.recording import Recording, explicit_attention, record

TARGETS = [2, 0]


@dataclass(frozen=True)
class Told:
    """A recorded run of a classifier, and what the reference makes of every sample."""

    model: Any
    inputs: Tensor
    recording: Recording
    score: Tensor
    explained: list[reference.Explained]


@cache
def told(classifier: Classifier) -> Told:
    case = classifier.case
    model, inputs = case.model(torch.float64), case.inputs(torch.float64)
    kept: list[Tensor] = []

    def run() -> None:
        kept.append(classifier.logits(model, case.call(model, inputs)))

    recording = record(run, model, list(model.get_submodule(case.blocks)), case.batch_first)
    encoder = read(classifier, model)
    samples = recording.latents[0].detach() if encoder.patches is None else inputs
    explained = [reference.explain(encoder, *each) for each in zip(samples, TARGETS, strict=True)]
    score = kept[0].gather(1, torch.tensor(TARGETS)[:, None]).sum()
    return Told(model, inputs, recording, score, explained)


def attribute(method: Any, classifier: Classifier, output: str = "tokens", **options: Any) -> Tensor:
    run = told(classifier)
    explain = method(run.model, head=classifier.head)
    maps: Tensor = explain.attribute(run.inputs, target=TARGETS, output=output, **options)
    return maps


def close(classifier: Classifier) -> dict[str, float]:
    """The eager attention of transformers computes its softmax in float32."""
    return {"rtol": 1e-3, "atol": 1e-5} if "eager" in classifier.name else {"rtol": 1e-6, "atol": 1e-9}


every = pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda each: each.name)


@every
def test_lrp_equals_the_one_written_out(classifier: Classifier) -> None:
    explained = told(classifier).explained
    tokens = attribute(LRP, classifier)
    torch.testing.assert_close(tokens, torch.stack([e.streams[0].sum(-1) for e in explained]), **close(classifier))
    if told(classifier).inputs.dim() == 4:
        pixels = torch.stack([each.pixels for each in explained])  # type: ignore[misc]
        torch.testing.assert_close(attribute(LRP, classifier, "channels"), pixels, **close(classifier))
        torch.testing.assert_close(
            attribute(LRP, classifier, "input"), pixels.sum(1, keepdim=True), **close(classifier)
        )


@every
def test_partial_lrp_equals_the_one_written_out(classifier: Classifier) -> None:
    expected = torch.stack([reference.partial_lrp(each, classifier.readout) for each in told(classifier).explained])
    assert expected.abs().max() > 1e-6
    torch.testing.assert_close(attribute(PartialLRP, classifier), expected, **close(classifier))


@every
@pytest.mark.parametrize("start", [1, 0, -1])
def test_transformer_attribution_equals_the_one_written_out(classifier: Classifier, start: int) -> None:
    run = told(classifier)
    of_maps = class_methods.gradients(run.recording, run.score)
    by_sample: Sequence[Any] = list(zip(*of_maps, strict=True))
    expected = torch.stack(
        [
            reference.transformer_attribution(explained, gradients, classifier.readout, start)
            for explained, gradients in zip(run.explained, by_sample, strict=True)
        ]
    )
    found = attribute(TransformerAttribution, classifier, start_layer=start)
    torch.testing.assert_close(found, expected, **close(classifier))


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
    kept: list[Tensor] = []

    def forward() -> None:
        kept.append(classifier.logits(run.model, case.call(run.model, run.inputs)))

    streams: list[Tensor] = []
    blocks = list(run.model.get_submodule(case.blocks))
    handle = blocks[0].register_forward_pre_hook(lambda module, args: streams.append(args[0]))
    with detached(), mock.patch.object(torch.backends.mha, "get_fastpath_enabled", lambda: False):
        run.model.requires_grad_(True)
        forward()
        run.model.requires_grad_(False)
    handle.remove()
    score = kept[0].gather(1, torch.tensor(TARGETS)[:, None]).sum()
    (gradient,) = torch.autograd.grad(score, streams)
    expected = (gradient * streams[0].detach()).sum(-1)
    torch.testing.assert_close(attribute(ConservativeLRP, classifier), expected, **close(classifier))


def test_conservative_lrp_keeps_all_of_the_score_where_nothing_but_relu_bends_it() -> None:
    """T5: no biases, root-mean-square norms of its own, ReLU; the relevance of the tokens is the score itself."""
    case = case_named("hf-T5EncoderModel-eager")
    model, inputs = case.model(torch.float64), case.inputs()

    def head(output: Any) -> Tensor:
        return output.last_hidden_state[:, 0, :5]

    rows = ConservativeLRP(model, head=head).attribute(inputs, target=TARGETS)
    scores = head(model(inputs)).gather(1, torch.tensor(TARGETS)[:, None])[:, 0]
    torch.testing.assert_close(rows.sum(1), scores.detach(), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", ["hf-BertModel-sdpa", "hf-LlamaForCausalLM-sdpa", "hf-GPT2Model-eager"])
def test_conservative_lrp_runs_on_text(name: str) -> None:
    case = case_named(name)
    model, inputs = case.model(torch.float64), case.inputs()

    def head(output: Any) -> Tensor:
        return getattr(output, "logits", getattr(output, "last_hidden_state", None))[:, -1]

    method = ConservativeLRP(model, head=head)
    rows = method.attribute(inputs, target=TARGETS)
    assert rows.shape == inputs.shape and rows.isfinite().all() and rows.abs().min(1).values.sum() >= 0
    alone = torch.cat([method.attribute(inputs[i : i + 1], target=TARGETS[i]) for i in range(2)])
    torch.testing.assert_close(rows, alone, rtol=1e-6, atol=1e-9)


class OwnNorm(nn.Module):
    """A normalisation by operations that no rule names."""

    def forward(self, x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)


@pytest.mark.parametrize("method", [LRP, PartialLRP, TransformerAttribution, ConservativeLRP])
def test_normalisations_of_a_models_own_are_refused_by_name(method: Any) -> None:
    model = timm_models.build("vit_small_patch16_224", patch_size=8)
    model.blocks[2].norm1 = OwnNorm()
    with pytest.raises(UnsupportedModelError, match="OwnNorm"):
        method(model).attribute(torch.randn(1, 3, 32, 32), target=0)


@pytest.mark.parametrize("method", [LRP, PartialLRP])
def test_another_scalar_than_the_logit_is_refused(method: Any) -> None:
    model = classifier_named("timm-classifier-vit").case.model()
    with pytest.raises(ValueError, match=r"class_score='probability'.*logit"):
        method(model).attribute(torch.randn(1, 3, 32, 32), target=0, class_score="probability")


@pytest.mark.parametrize("method", [LRP, PartialLRP, TransformerAttribution])
def test_half_precision_is_refused(method: Any) -> None:
    model = classifier_named("timm-classifier-vit").case.model(torch.bfloat16)
    with pytest.raises(ValueError, match=r"model\.float"):
        method(model).attribute(torch.randn(1, 3, 32, 32).bfloat16(), target=0)


@pytest.mark.parametrize("method", [LRP, PartialLRP, TransformerAttribution, ConservativeLRP])
def test_a_trainable_head_is_a_constant(method: Any) -> None:
    tower = classifier_named("open_clip-classifier-tower").case.model()
    head = nn.Linear(16, 4)
    images = torch.randn(2, 3, 32, 32)
    found = method(tower, head=head).attribute(images, target=1)
    frozen = method(tower, head=head.requires_grad_(False)).attribute(images, target=1)
    torch.testing.assert_close(found, frozen)
    assert head.weight.grad is None


def test_patches_get_the_sum_of_their_pixels() -> None:
    """No norm stands between the pixels and the first block of this model, and positions take no relevance."""
    classifier = classifier_named("timm-classifier-vit")
    pixels = attribute(LRP, classifier, "input")
    patches = attribute(LRP, classifier, "patches")
    summed = F.avg_pool2d(pixels, 8, divisor_override=1).flatten(1)
    torch.testing.assert_close(patches, summed, rtol=1e-4, atol=1e-7)
