"""Explanations of a class on real library models, against the methods written out over stored maps, in float64."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from captum_ultra import UnsupportedModelError
from tests.attr.told import Told, attribute, told
from tests.builders.classifiers import CLASSIFIERS, Classifier, classifier_named
from tests.reference import class_methods

pytestmark = pytest.mark.filterwarnings("ignore:little is left in a map:UserWarning")
Expected = Callable[[Classifier, Told], Tensor]


def read(c: Classifier, t: Told) -> Tensor:
    """Weights of the tokens where the targets are read."""
    return class_methods.read_by_gradient(t.recording, t.score(), c.readout)


def read_of_any(c: Classifier, t: Told) -> Tensor:
    return class_methods.read_by_gradient(t.recording, t.any_score(), c.readout)


def patches(c: Classifier) -> range:
    return range(c.case.prefix, c.case.tokens)


EXPECTED: dict[str, Expected] = {
    "RawAttention": lambda c, t: class_methods.raw_attention(t.recording, read_of_any(c, t)),
    "AttentionRollout": lambda c, t: class_methods.rollout(t.recording, read_of_any(c, t)),
    "GenericAttention": lambda c, t: class_methods.generic_attention(
        t.recording, t.score(), read(c, t), patches=patches(c)
    ),
    "AttentionGradCam": lambda c, t: class_methods.grad_cam(
        t.recording, t.score(), read(c, t), slice(c.case.prefix, c.case.tokens)
    ),
    "AttCAT": lambda c, t: class_methods.attcat(t.recording, t.score()),
    "LeGrad": lambda c, t: class_methods.legrad(t.recording, lambda z: t.score(logits=c.tail(t.model, z))),
}
CHOSEN: dict[str, tuple[str, dict[str, Any], Expected]] = {
    "rollout from block 1": (
        "AttentionRollout", {"start_layer": 1}, lambda c, t: class_methods.rollout(t.recording, read_of_any(c, t), 1)
    ),
    "GAE of the last block, probability": (
        "GenericAttention", {"start_layer": -1, "class_score": "probability"},
        lambda c, t: class_methods.generic_attention(t.recording, t.score("probability"), read(c, t), -1, patches(c)),
    ),
}  # fmt: skip


def close(classifier: Classifier, found: Tensor, want: Tensor) -> None:
    """The eager attention of transformers computes its softmax in float32, whose rows sum to one only about."""
    tolerance = 1e-6 if "eager" in classifier.name else 1e-9
    assert want.abs().max() > 1e-6
    torch.testing.assert_close(found, want.detach(), rtol=tolerance, atol=tolerance / 1000)


@pytest.mark.parametrize("method", EXPECTED)
@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda each: each.name)
def test_equals_the_method_written_out(classifier: Classifier, method: str) -> None:
    close(classifier, attribute(method, classifier), EXPECTED[method](classifier, told(classifier)))


@pytest.mark.parametrize("name", CHOSEN)
def test_choices(name: str) -> None:
    classifier = classifier_named("timm-classifier-distilled")
    method, options, expected = CHOSEN[name]
    close(classifier, attribute(method, classifier, **options), expected(classifier, told(classifier)))


TOKEN_TM: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "logit": ({"class_score": "logit"}, {}, "logit"),
    "lengths alone": ({"necc": False}, {"necc": False}, "probability"),
    "NECC alone, times n": ({"length": False, "necc_scale": "n"}, {"length": False, "scale": 18}, "probability"),
    "first two blocks": ({"first_blocks": 2}, {"first_blocks": 2}, "probability"),
    "last block alone": ({"aggregation": False}, {"last_only": True}, "probability"),
}


def token_tm(classifier: Classifier, kind: str, **options: Any) -> Tensor:
    run = told(classifier)
    if len(set(classifier.readout) & set(patches(classifier))) > 1:  # no identity that NECC could be small beside
        options = {"scale": classifier.case.tokens} | options
    return class_methods.token_tm(
        run.recording, run.score(kind), read(classifier, run),
        lambda block, stream: classifier.parts(run.model, block, stream),  # type: ignore[misc]
        patches=patches(classifier), **options,
    )  # fmt: skip


@pytest.mark.parametrize("classifier", CLASSIFIERS, ids=lambda each: each.name)
def test_token_tm_equals_every_matrix_written_out(classifier: Classifier) -> None:
    if classifier.parts is None:
        with pytest.raises(UnsupportedModelError, match=r"block 0 .*(own softmax|stream)"):
            attribute("TokenTM", classifier)
    else:
        close(classifier, attribute("TokenTM", classifier), token_tm(classifier, "probability"))


@pytest.mark.parametrize("name", TOKEN_TM)
def test_choices_of_token_tm(name: str) -> None:
    classifier = classifier_named("timm-classifier-distilled")
    options, explicit, kind = TOKEN_TM[name]
    close(classifier, attribute("TokenTM", classifier, **options), token_tm(classifier, kind, **explicit))


def test_token_tm_without_weights_is_gae() -> None:
    classifier = classifier_named("timm-classifier-distilled")
    plain = attribute("TokenTM", classifier, length=False, necc=False)
    torch.testing.assert_close(plain, attribute("GenericAttention", classifier, class_score="probability"))
    of: dict[str, Any] = {"token": (1, 2), "layer": 2}
    plain = attribute("TokenTM", classifier, length=False, necc=False, **of)
    torch.testing.assert_close(plain, attribute("GenericAttention", classifier, **of))
