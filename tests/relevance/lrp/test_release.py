"""What a run held is freed when its result is there."""

import gc

import pytest
import torch

from captum_ultra import LRP, PartialLRP, TransformerAttribution
from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig


@pytest.mark.parametrize("method", [LRP, PartialLRP, TransformerAttribution])
def test_no_graph_outlives_its_explanation(method):
    model = ViTClassifier(ViTClassifierConfig(image_size=16, dim=16, depth=3, heads=2)).eval()
    explain = method(model)

    def nodes():
        gc.collect()
        return sum(type(each).__name__ == "_CarryBackward" for each in gc.get_objects())

    before = nodes()
    maps = explain.attribute(torch.rand(1, 3, 16, 16), target=1)
    assert nodes() == before and maps.shape == (1, 1, 16, 16)
