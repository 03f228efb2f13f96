"""Whole classifiers of four libraries against relevance propagated by hand, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from captum_ultra.relevance.lrp import input_relevance, stream_relevance
from tests.builders.classifiers import CLASSIFIERS, Classifier
from tests.reference import lrp as reference
from tests.reference.lrp_models import Encoder, read

TARGETS = (1, 0)


@dataclass(frozen=True)
class Problem:
    """A classifier, its input, and what the reference makes of every sample."""

    classifier: Classifier
    model: Any
    inputs: Tensor
    reference: list[reference.Explained]

    def run(self, inputs: Tensor | None = None) -> Any:
        return self.classifier.case.call(self.model, self.inputs if inputs is None else inputs)

    def explained(self, output: Any) -> Tensor:
        return self.classifier.logits(self.model, output).gather(1, torch.tensor(TARGETS)[:, None])[:, 0]

    @property
    def close(self) -> dict[str, float]:
        """The eager attention of transformers computes its softmax in float32."""
        return {"rtol": 1e-3, "atol": 1e-5} if "eager" in self.classifier.name else {"rtol": 1e-6, "atol": 1e-9}


def stream_below(classifier: Classifier, model: Any, inputs: Tensor) -> Tensor:
    kept: list[Tensor] = []
    block = model.get_submodule(classifier.case.blocks)[0]
    handle = block.register_forward_pre_hook(lambda module, args: kept.append(args[0]))
    with torch.no_grad():
        classifier.case.call(model, inputs)
    handle.remove()
    return kept[0]


@pytest.fixture(scope="module", params=CLASSIFIERS, ids=lambda each: each.name)
def problem(request: pytest.FixtureRequest) -> Problem:
    classifier: Classifier = request.param
    model, inputs = classifier.case.model(torch.float64), classifier.case.inputs(torch.float64)
    encoder: Encoder = read(classifier, model)
    samples = inputs if encoder.patches is not None else stream_below(classifier, model, inputs)
    with torch.no_grad():
        entering = samples if encoder.patches is None else [reference.embed(encoder.patches, each) for each in samples]
        scores = torch.stack([reference.forward(encoder, each)[0] for each in entering])
        output = classifier.logits(model, classifier.case.call(model, inputs))
    torch.testing.assert_close(scores, output, rtol=1e-5, atol=1e-6)  # the same model, before its explanations
    pairs = zip(samples, TARGETS, strict=True)
    return Problem(classifier, model, inputs, [reference.explain(encoder, *each) for each in pairs])


def test_the_pixels_get_what_the_reference_gives_them(problem: Problem) -> None:
    if not problem.inputs.is_floating_point():
        pytest.skip("text has no pixels")
    found = input_relevance(problem.run, problem.model, problem.inputs, problem.explained)
    expected = torch.stack([each.pixels for each in problem.reference])  # type: ignore[misc]
    torch.testing.assert_close(found, expected, **problem.close)


def test_streams_and_attention_maps_get_what_the_reference_gives_them(problem: Problem) -> None:
    blocks = list(problem.model.get_submodule(problem.classifier.case.blocks))
    for first in (0, 2):
        found = stream_relevance(problem.run, problem.model, blocks, problem.explained, first=first)
        expected = torch.stack([each.streams[first] for each in problem.reference])
        torch.testing.assert_close(found.relevance, expected, **problem.close)
        assert sorted(found.maps) == list(range(first, len(blocks)))
        for block, maps in found.maps.items():
            rows = torch.stack([maps.row(row) for row in range(problem.classifier.case.tokens)], dim=2)
            expected = torch.stack([each.maps[block] for each in problem.reference])
            torch.testing.assert_close(rows, expected, **problem.close)
