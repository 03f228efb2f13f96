"""A model of 64 tokens, and options for it: every study in a moment."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from captum_ultra.experiments.evaluate import STUDIES, Options, Report, evaluate
from captum_ultra.models.loader import LoadedModel
from captum_ultra.models.vit import VisionTransformer, ViTConfig
from captum_ultra.segmentation.ultra_w_settings import UltraWSettings

SIDE, DEPTH = 32, 2
ULTRA = [name for name in STUDIES if name.startswith("ultra-")]
TRAINING = UltraWSettings(samples=3, n_clusters=2, batch_size=1)


def small_model(seed: int = 0, side: int = SIDE, cls_token: bool = False) -> LoadedModel:
    torch.manual_seed(seed)
    config = ViTConfig(image_size=side, dim=16, depth=DEPTH, heads=2, cls_token=cls_token)
    model = VisionTransformer(config).eval()
    mean, std = (tuple(each.flatten().tolist()) for each in (model.mean, model.std))
    return LoadedModel(model, "small", lambda image: torch.zeros(1, 3, side, side), mean, std)


def options(study: str, **more: Any) -> Options:
    return Options(study, **{"model": "small", "images": 4, "training": TRAINING, **more})


def run(study: str, folder: Path, root: Path | None = None, **more: Any) -> Report:
    return evaluate(options(study, **more), folder, root, loaded=small_model())
