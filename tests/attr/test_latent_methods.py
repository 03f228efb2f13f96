"""Every method of a class explains latent tokens as well: against the methods written out, in float64."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

import captum_ultra
from captum_ultra import LRP, PartialLRP, TransformerAttribution
from tests.attr.told import Told, told, up_to
from tests.builders.classifiers import classifier_named
from tests.reference import class_methods
from tests.reference import lrp as reference
from tests.reference.account_models import case_of, exact
from tests.reference.lrp_models import read
from tests.reference.recording import Recording
from tests.reference.ultra import scalar

LAYERS, TOKENS = [3, 1], [0, 4, 8]
OPTIONS: dict[str, Any] = {
    "token": TOKENS, "layer": LAYERS, "score": "energy", "output": "tokens", "self_token": "keep",
}  # fmt: skip

# One of each library, and text with a mask: of its own, causal, and after the stream has been normed.
CLASSIFIERS = [
    "timm-classifier-layerscale", "timm-classifier-distilled", "hf-ViTForImageClassification-sdpa",
    "hf-BertForSequenceClassification-sdpa", "open_clip-classifier-tower", "torchvision-classifier",
    "shipped-classifier",
]  # fmt: skip
OTHERS = ["hf-LlamaForCausalLM-sdpa", "hf-GPT2LMHeadModel-eager", "torch-encoder-postnorm"]

# (the run up to the layer, its explained scalar, the token, the patches) -> row [B, n]
Expected = Callable[[Recording, Tensor, int, slice], Tensor]
EXPECTED: dict[str, Expected] = {
    "RawAttention": lambda run, value, i, patches: class_methods.raw_attention(run, [i]),
    "AttentionRollout": lambda run, value, i, patches: class_methods.rollout(run, [i]),
    "LatentTokenAttribution": lambda run, value, i, patches: class_methods.generic_attention(run, value, [i]),
    "AttentionGradCam": lambda run, value, i, patches: class_methods.grad_cam(run, value, [i], patches),
    "AttCAT": lambda run, value, i, patches: class_methods.attcat(run, value),
    "LeGrad": lambda run, value, i, patches: class_methods.legrad(run, lambda z: scalar(z, i, "energy", True)),
}


@cache
def recorded(name: str) -> Told:
    if name in CLASSIFIERS:
        return told(classifier_named(name))
    case = case_of(name)
    model, inputs = case.model(torch.float64), case.inputs(torch.float64)
    if inputs.is_floating_point():
        inputs.requires_grad_()
    with exact():
        return Told(model, inputs, case.record(model, inputs), torch.empty(0))


def parts(run: Told) -> Iterator[tuple[int, int, Recording, Tensor]]:
    """(index of the layer, index of the token, the run up to there, the explained scalar)."""
    for place, layer in enumerate(LAYERS):
        for index, token in enumerate(TOKENS):
            value = scalar(run.recording.latents[layer], token, "energy", normalize=True)
            yield place, index, up_to(run.recording, layer), value


@pytest.mark.parametrize("method", EXPECTED)
@pytest.mark.parametrize("name", [*CLASSIFIERS, *OTHERS])
def test_latent_tokens_of_two_layers(name: str, method: str) -> None:
    run, patches = recorded(name), slice(case_of(name).prefix, None)
    with exact():
        found = getattr(captum_ultra, method)(run.model).attribute(run.inputs, **OPTIONS)
    for place, index, part, value in parts(run):
        want = EXPECTED[method](part, value, TOKENS[index], patches).detach()
        torch.testing.assert_close(found[place][:, index], want, rtol=1e-8, atol=1e-11)
    assert all(rows.abs().max() > 1e-4 for rows in found)


@pytest.mark.parametrize("name", [name for name in CLASSIFIERS if "Bert" not in name])
def test_token_tm(name: str) -> None:
    run, classifier = recorded(name), classifier_named(name)
    found = captum_ultra.TokenTM(run.model).attribute(run.inputs, **OPTIONS)
    first = captum_ultra.TokenTM(run.model).attribute(run.inputs, first_blocks=1, **OPTIONS)
    last = captum_ultra.TokenTM(run.model).attribute(run.inputs, aggregation=False, **OPTIONS)
    for place, index, part, value in parts(run):
        for rows, options in ((found, {}), (first, {"first_blocks": 1}), (last, {"last_only": True})):
            want = class_methods.token_tm(
                part, value, [TOKENS[index]],
                lambda block, stream: classifier.parts(run.model, block, stream),  # type: ignore[misc]
                **options,
            ).detach()  # fmt: skip
            torch.testing.assert_close(rows[place][:, index], want, rtol=1e-8, atol=1e-11)


@cache
def propagated(name: str, layer: int, token: int, sample: int, rules: reference.Rules) -> reference.Explained:
    """Relevance starts as what every channel of a token adds to its energy <z / |z|, z / |z|>."""
    run, encoder = recorded(name), read(classifier_named(name), recorded(name).model)
    z = run.recording.latents[layer][sample].detach()
    relevance = torch.zeros_like(z)
    relevance[token] = z[token].square() / z[token].square().sum()
    entering = run.recording.latents[0][sample].detach() if encoder.patches is None else run.inputs[sample]
    return reference.explain_latent(encoder, entering, layer, relevance, rules)


RULES = {"conserving": reference.CONSERVING, "published": reference.PUBLISHED}


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_lrp_and_partial_lrp(name: str, rules: str) -> None:
    run = recorded(name)
    rows = LRP(run.model).attribute(run.inputs, rules=rules, **OPTIONS)
    pixels = LRP(run.model).attribute(run.inputs, rules=rules, **{**OPTIONS, "output": "input"})
    partial = PartialLRP(run.model).attribute(run.inputs, rules=rules, **OPTIONS)
    for place, layer in enumerate(LAYERS):
        for index, token in enumerate(TOKENS):
            sample = index % 2
            expected = propagated(name, layer, token, sample, RULES[rules])
            close = {"rtol": 1e-6, "atol": 1e-9}
            torch.testing.assert_close(rows[place][sample, index], expected.streams[0].sum(-1), **close)
            torch.testing.assert_close(partial[place][sample, index], reference.partial_lrp(expected, [token]), **close)
            if expected.pixels is not None:
                torch.testing.assert_close(pixels[place][sample, index], expected.pixels.sum(0), **close)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_transformer_attribution(name: str) -> None:
    run = recorded(name)
    for start in (None, 0, -1):
        found = TransformerAttribution(run.model).attribute(run.inputs, start_layer=start, **OPTIONS)
        for place, index, part, value in parts(run):
            sample, layer = index % 2, LAYERS[place]
            gradients = [each[sample] for each in class_methods.gradients(part, value)]
            expected = reference.transformer_attribution(
                propagated(name, layer, TOKENS[index], sample, reference.CONSERVING), gradients, [TOKENS[index]],
                min(1, layer - 1) if start is None else start,
            )  # fmt: skip
            torch.testing.assert_close(found[place][sample, index], expected, rtol=1e-6, atol=1e-9)
