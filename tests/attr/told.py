"""Recorded runs of classifiers in float64, which tests of several methods compare with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

import captum_ultra
from tests.builders.classifiers import Classifier
from tests.reference.recording import Recording, record

__all__ = ["TARGETS", "Told", "attribute", "told", "up_to"]

TARGETS = [2, 0]


@dataclass(frozen=True)
class Told:
    """A recorded run of a classifier: its logits, and the scalars explained."""

    model: Any
    inputs: Tensor
    recording: Recording
    logits: Tensor

    def score(self, kind: str = "logit", logits: Tensor | None = None) -> Tensor:
        """Of the targets, summed over the samples."""
        logits = self.logits if logits is None else logits
        logits = logits.softmax(-1) if kind == "probability" else logits
        return logits.gather(1, torch.tensor(TARGETS)[:, None]).sum()

    def any_score(self) -> Tensor:
        """Of no class: all logits, unequally weighted."""
        return (self.logits * torch.linspace(1, 2, self.logits.shape[1]).sin()).sum()


@cache
def told(classifier: Classifier) -> Told:
    case = classifier.case
    model, inputs = case.model(torch.float64), case.inputs(torch.float64)
    kept: list[Tensor] = []

    def call() -> None:
        kept.append(classifier.logits(model, case.call(model, inputs)))

    recording = record(call, model, list(model.get_submodule(case.blocks)), case.batch_first)
    return Told(model, inputs, recording, kept[0])


def attribute(method: str, classifier: Classifier, output: str = "tokens", **options: Any) -> Tensor:
    """By a method of the package: of the targets, or of what the options name."""
    run = told(classifier)
    explain = getattr(captum_ultra, method)(run.model, head=classifier.head)
    options = options if {"token", "layer"} & options.keys() else {"target": TARGETS, **options}
    found: Tensor = explain.attribute(run.inputs, output=output, **options)
    return found


def up_to(recording: Recording, layer: int) -> Recording:
    """The part of a run that a latent of this layer knows."""
    return Recording(recording.latents[: layer + 1], recording.maps[:layer])
