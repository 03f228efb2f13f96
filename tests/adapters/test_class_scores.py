"""What has no class to choose is refused, and the head that the message names gives one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from captum_ultra import GenericAttention, LatentTokenAttribution, UnsupportedModelError
from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig
from tests.builders.transformers_models import _IMAGE, SIZE, build


def logits_alone() -> nn.Module:
    return ViTClassifier(ViTClassifierConfig(image_size=SIZE, dim=16, depth=2, heads=2, classes=("yes",)))


def logits_among_others() -> nn.Module:
    return build("ViT", "ForImageClassification", "sdpa", num_labels=1, **_IMAGE)


@pytest.mark.parametrize("make", [logits_alone, logits_among_others])
def test_one_logit_becomes_two_classes(make: Any) -> None:
    torch.manual_seed(0)
    model, images = make().eval(), torch.randn(1, 3, SIZE, SIZE)
    with pytest.raises(UnsupportedModelError, match="in which no class can be chosen") as refused:
        GenericAttention(model).attribute(images)
    head = str(refused.value).partition("head=")[2].partition(" for two classes")[0]
    maps = GenericAttention(model, head=eval(head)).attribute(images, target=[[0, 1]])  # as the message says
    assert maps.any() and not torch.allclose(maps[0, 0], maps[0, 1])
    LatentTokenAttribution(model).attribute(images, token=(1, 1))
