"""Explanations of a class on real library models, against the methods written out over stored maps, in float64."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import captum_ultra
from tests.builders.classifiers import CLASSIFIERS, Classifier
from tests.reference import class_methods
from tests.reference.recording import Recording

TARGETS = [2, 0]


@dataclass(frozen=True)
class Told:
    """A recorded run of a classifier in float64: its logits, and the scalars explained."""

    model: nn.Module
    inputs: Tensor
    recording: Recording
    logits: Tensor

    def score(self, kind: str = "logit", logits: Tensor | None = None) -> Tensor:
        logits = self.logits if logits is None else logits
        logits = logits.softmax(-1) if kind == "probability" else logits
        return sum(logits[sample, target] for sample, target in enumerate(TARGETS))  # type: ignore[return-value]


@cache
def told(classifier: Classifier) -> Told:
    model = classifier.case.model(torch.float64)
    inputs = classifier.case.inputs(torch.float64)
    kept: list[Tensor] = []
    case = classifier.case

    def call() -> None:
        kept.append(classifier.logits(model, case.call(model, inputs)))

    from tests.reference.recording import record

    recording = record(call, model, list(model.get_submodule(case.blocks)), case.batch_first)
    return Told(model, inputs, recording, kept[0])


def attribute(method: str, classifier: Classifier, run: Told, **options: Any) -> Tensor:
    explain = getattr(captum_ultra, method)(run.model, head=classifier.head)
    rows: Tensor = explain.attribute(run.inputs, target=TARGETS, output="tokens", **options)
    return rows


def patches(classifier: Classifier) -> slice:
    return slice(classifier.case.prefix, classifier.case.tokens)


Expected = Callable[[Classifier, Told], Tensor]
EXPECTED: dict[str, tuple[str, dict[str, Any], Expected]] = {
    "raw attention": ("RawAttention", {}, lambda c, t: class_methods.raw_attention(t.recording, c.readout)),
    "rollout": ("AttentionRollout", {}, lambda c, t: class_methods.rollout(t.recording, c.readout)),
    "rollout from block 1": (
        "AttentionRollout", {"start_layer": 1}, lambda c, t: class_methods.rollout(t.recording, c.readout, 1)
    ),
    "GAE": (
        "GenericAttention", {}, lambda c, t: class_methods.generic_attention(t.recording, t.score(), c.readout)
    ),
    "GAE of the last block, probability": (
        "GenericAttention", {"start_layer": -1, "class_score": "probability"},
        lambda c, t: class_methods.generic_attention(t.recording, t.score("probability"), c.readout, -1),
    ),
    "Grad-CAM": (
        "AttentionGradCam", {},
        lambda c, t: class_methods.grad_cam(t.recording, t.score(), c.readout, patches(c)),
    ),
    "AttCAT": ("AttCAT", {}, lambda c, t: class_methods.attcat(t.recording, t.score())),
    "LeGrad": (
        "LeGrad", {}, lambda c, t: class_methods.legrad(t.recording, lambda z: t.score(logits=c.tail(t.model, z)))
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda each: each.name)
def test_equals_the_method_written_out(classifier: Classifier, name: str) -> None:
    method, options, expected = EXPECTED[name]
    run = told(classifier)
    found = attribute(method, classifier, run, **options)
    want = expected(classifier, run).detach()
    assert want.abs().max() > 1e-6
    # The eager attention of transformers computes its softmax in float32, whose rows sum to one only about.
    tolerance = 1e-6 if "eager" in classifier.name else 1e-9
    torch.testing.assert_close(found, want, rtol=tolerance, atol=tolerance / 1000)


TOKEN_TM: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "whole": ({}, {}, "probability"),
    "logit": ({"class_score": "logit"}, {}, "logit"),
    "lengths alone": ({"necc": False}, {"necc": False}, "probability"),
    "NECC alone, times n": ({"length": False, "necc_scale": "n"}, {"length": False, "scale": "n"}, "probability"),
    "first two blocks": ({"first_blocks": 2}, {"first_blocks": 2}, "probability"),
    "last block alone": ({"aggregation": False}, {"last_only": True}, "probability"),
}
TRANSFORMING = [each for each in CLASSIFIERS if each.parts is not None]


@pytest.mark.parametrize("name", TOKEN_TM)
@pytest.mark.parametrize("classifier", TRANSFORMING, ids=lambda each: each.name)
def test_token_tm_equals_every_matrix_written_out(classifier: Classifier, name: str) -> None:
    options, explicit, kind = TOKEN_TM[name]
    run = told(classifier)
    found = attribute("TokenTM", classifier, run, **options)
    if explicit.get("scale") == "n":
        explicit = {**explicit, "scale": classifier.case.tokens}
    want = class_methods.token_tm(
        run.recording, run.score(kind), classifier.readout,
        lambda block, stream: classifier.parts(run.model, block, stream),  # type: ignore[misc]
        **explicit,
    )  # fmt: skip
    torch.testing.assert_close(found, want.detach(), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("classifier", TRANSFORMING, ids=lambda each: each.name)
def test_token_tm_without_weights_is_gae(classifier: Classifier) -> None:
    run = told(classifier)
    plain = attribute("TokenTM", classifier, run, length=False, necc=False)
    torch.testing.assert_close(plain, attribute("GenericAttention", classifier, run, class_score="probability"))


@pytest.mark.parametrize("classifier", [c for c in CLASSIFIERS if c.parts is None], ids=lambda each: each.name)
def test_token_tm_refuses_blocks_whose_tokens_it_cannot_follow(classifier: Classifier) -> None:
    with pytest.raises(captum_ultra.UnsupportedModelError, match=r"block 0 .*(own softmax|stream)"):
        attribute("TokenTM", classifier, told(classifier))
