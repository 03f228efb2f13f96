"""Published numbers stand beside comparable ones only, and are those of the tables."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from captum_ultra.data.registry import segmentation_dataset
from captum_ultra.experiments.evaluate.inputs import ModelInput
from captum_ultra.experiments.evaluate.ultra.options import Options
from captum_ultra.experiments.evaluate.ultra.published import (
    backbone_of,
    published_itiou,
    published_perturbation,
    published_segmentation,
)
from captum_ultra.experiments.evaluate.ultra.study import UltraSetting

ROWS = """\
CLIP B/32 60.6/34.1 60.8/34.6 51.2/49.2 17.6/17.1 78.7/78.3
CLIP B/16 63.8/34.0 63.0/33.2 50.9/48.3 24.8/24.2 80.9/80.9
CLIP L/14 67.9/38.2 66.5/37.5 49.1/48.7 25.1/24.2 82.4/82.8
DINO S/16 67.2/34.4 66.4/33.3 48.9/47.9 25.8/24.2 79.0/77.4
DINO B/16 67.4/37.7 67.3/35.6 50.5/50.0 26.5/25.7 80.7/80.8"""
"""As printed: COCO-Stuff ACC/mIoU of W and of S; VOC, Cityscapes, Potsdam of W/S."""

MODELS = {
    "CLIP B/32": "open_clip:ViT-B-32/openai",
    "CLIP B/16": "open_clip:ViT-B-16-quickgelu/openai",
    "CLIP L/14": "hf:openai/clip-vit-large-patch14",
    "DINO S/16": "timm:vit_small_patch16_224.dino",
    "DINO B/16": "hf:facebook/dino-vitb16",
}


@pytest.mark.parametrize("line", ROWS.splitlines())
def test_segmentation_as_printed(line: str) -> None:
    *words, coco_w, coco_s, voc, cityscapes, potsdam = line.split()
    backbone = " ".join(words)
    assert backbone_of(MODELS[backbone]) == backbone

    def found(data: str, metric: str, name: str) -> str:
        return str(published_segmentation(data, backbone, name, metric, None))

    for name, text in (("ULTra_W", coco_w), ("ULTra_S", coco_s)):
        assert "/".join(found("coco-stuff", metric, name) for metric in ("U.ACC", "U.mIoU")) == text
    columns = (("voc", "U.mIoU", voc), ("cityscapes", "U.mIoU", cityscapes), ("potsdam", "U.ACC", potsdam))
    for data, metric, text in columns:
        assert "/".join(found(data, metric, name) for name in ("ULTra_W", "ULTra_S")) == text
        assert published_segmentation(data, backbone, "ULTra_E", metric, None) is not None


def test_what_is_not_published() -> None:
    assert published_segmentation("voc", "CLIP B/32", "ULTra_S", "U.ACC", None) is None
    assert published_segmentation("voc", "CLIP B/32", "ULTra_S", "U.mIoU", 0.4) == 51.9
    assert published_segmentation("voc", "CLIP B/32", "ULTra_S", "U.mIoU", 0.3) is None
    assert published_segmentation("voc", None, "ULTra_S", "U.mIoU", 0.4) is None
    assert published_itiou("coco-stuff", "DINO S/16", 0.2) == 37.84
    assert published_itiou("coco-stuff", "DINO S/16", 0.3) is None and published_itiou("voc", None, 0.2) is None
    assert published_perturbation("coco-stuff", "CLIP L/14", "noise", "negative") == 4.27
    assert published_perturbation("coco-stuff", "CLIP L/14", "noise", "random") is None
    assert published_perturbation("voc", "DINO S/16", "mask", "negative") is None
    assert backbone_of("open_clip:ViT-B-32/laion2b_s34b_b79k") is None


@pytest.mark.parametrize(
    ("more", "layer"), [({"split": "train"}, 12), ({"size": 224}, 12), ({"random_weights": True}, 12), ({}, 11)]
)
def test_other_protocols_have_no_published_number(more: dict, layer: int, tmp_path: Path) -> None:
    def setting(layer: int, **more: object) -> UltraSetting:
        options = Options("ultra-segmentation", "voc", model=MODELS["CLIP B/32"], **more)
        prepare, data = ModelInput(224, (0.5,) * 3, (0.5,) * 3), segmentation_dataset("scenes")
        return UltraSetting(options, torch.nn.Identity(), data, prepare, layer, 12, (320, 320), lambda layer: {})

    assert setting(12).backbone == "CLIP B/32"
    assert setting(layer, **more).backbone is None
