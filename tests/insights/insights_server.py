"""Captum Insights with the methods of the package, on loopback; prints its address, serves until it is ended.

A program of its own: Captum's server runs in a thread that nothing can stop.
"""

from __future__ import annotations

import os
import sys

import torch

from captum_ultra.insights.captum_insights import register
from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig


def main() -> None:
    # Not above: only old versions of captum have them, and this file is read wherever docstrings are collected.
    from captum.insights import AttributionVisualizer, Batch
    from captum.insights.attr_vis.features import ImageFeature

    torch.set_num_threads(1)
    torch.manual_seed(0)
    register()
    model = ViTClassifier(ViTClassifierConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
    images = torch.rand(4, 3, 16, 16)
    visualizer = AttributionVisualizer(
        models=[model],
        classes=list(model.classes),
        features=[ImageFeature("Photo", baseline_transforms=[], input_transforms=[lambda image: 2 * image - 1])],
        dataset=[Batch(inputs=images, labels=torch.tensor([0, 1, 2, 3]))],
        score_func=lambda logits: logits.softmax(-1),
    )
    visualizer.serve()
    end_with_parent()


def end_with_parent() -> None:
    """Leave when the test that started this closes the other end of the standard input."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
