"""A classifier of 64 patches, and options for it: every study in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from captum_ultra.experiments.evaluate import Report, TokenTMOptions, evaluate
from captum_ultra.models.loader import LoadedModel
from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig

SIDE, DEPTH = 32, 4
METHODS = ("gae", "token_tm", "rollout")


def small_classifier(seed: int = 0, classes: int = 6) -> LoadedModel:
    """Random weights, large enough for maps and scores that differ from image to image."""
    names = tuple(f"class {number}" for number in range(classes))
    torch.manual_seed(seed)
    model = ViTClassifier(ViTClassifierConfig(image_size=SIDE, dim=16, depth=DEPTH, heads=2, classes=names)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(0, 0.4)
    mean, std = (tuple(each.flatten().tolist()) for each in (model.mean, model.std))
    return LoadedModel(model, "small", lambda image: torch.zeros(1, 3, SIDE, SIDE), mean, std)


def options(study: str, **more: Any) -> TokenTMOptions:
    return TokenTMOptions(study, **{"model": "small", "images": 4, "methods": METHODS, **more})


def run(study: str, folder: Path, root: Path | None = None, classes: int = 6, **more: Any) -> Report:
    return evaluate(options(study, **more), folder, root, loaded=small_classifier(classes=classes))
