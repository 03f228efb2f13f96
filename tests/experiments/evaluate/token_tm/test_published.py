"""The published numbers as they are printed, and beside nothing that they do not belong to."""

from __future__ import annotations

import pytest

from captum_ultra.attr.methods import METHODS
from captum_ultra.experiments.evaluate.token_tm.published import (
    backbone_of,
    published_ablation,
    published_area,
    published_localization,
    published_probability,
)

ROWS = """\
grad_cam 67.37/79.20/46.13 61.24/47.32 47.18/41.91 43.84/26.11 .557 .457 -4.020 -3.023
lrp 50.96/55.87/32.82 72.62/72.14 46.76/46.31 42.55/41.29 .474 .508 -3.259 -3.634
conservative_lrp 64.06/68.01/36.23 44.92/49.15 27.11/27.99 33.24/34.35 .613 .614 -4.272 -4.443
transformer_attribution 79.17/85.81/61.02 67.65/43.64 44.65/24.99 57.48/19.00 .721 .716 -5.622 -5.541
raw_attention 59.07/76.51/36.36 58.46/47.17 37.23/28.62 48.70/25.44 .652 .655 -4.911 -4.961
rollout 59.01/73.76/39.43 64.88/42.89 41.34/24.96 43.23/32.34 .688 .689 -5.259 -5.183
attcat 43.88/48.38/27.90 41.78/42.66 23.52/22.15 32.34/31.71 .641 .645 -4.461 -4.622
gae 79.05/85.71/61.56 71.67/37.77 52.14/17.52 57.53/15.88 .714 .699 -5.437 -5.601
token_tm 81.79/86.45/64.22 74.90/37.14 54.78/16.07 58.12/15.75 .764 .726 -5.781 -5.755"""
"""Pixel accuracy/mAP/mIoU; negative/positive of three data sets; AOPC of ViT-B, ViT-L, log-odds of both."""

ABLATION = """\
baseline 52.94/67.78/33.42 44.92/31.95
+ aggregation 76.30/85.28/58.34 55.25/16.98
+ L 77.50/85.39/59.59 55.03/16.28
+ NECC 78.22/85.69/60.29 55.42/16.18
first 3 blocks 63.63/76.40/42.99 -
first 6 blocks 68.38/80.35/48.66 -
first 9 blocks 70.46/81.74/51.11 -"""

METRICS, ORDERS = ("pixel accuracy", "mAP", "mIoU"), ("negative", "positive")


def two(*values: float | None) -> str:
    return "/".join("-" if value is None else f"{value:.2f}" for value in values)


@pytest.mark.parametrize("line", ROWS.splitlines())
def test_tables_as_printed(line: str) -> None:
    method, localization, *areas, aopc_b, aopc_l, odds_b, odds_l = line.split()
    assert method in METHODS
    found = [published_localization("imagenet-seg", "DeiT", method, metric) for metric in METRICS]
    assert two(*found) == localization
    for data, text in zip(("cifar10", "cifar100", "imagenet"), areas, strict=True):
        assert two(*(published_area(data, True, method, order) for order in ORDERS)) == text
    for metric, texts in (("AOPC", (aopc_b, aopc_l)), ("log-odds", (odds_b, odds_l))):
        for backbone, text in zip(("ViT-B", "ViT-L"), texts, strict=True):
            assert published_probability("imagenet", backbone, method, metric) == float(text)


@pytest.mark.parametrize("line", ABLATION.splitlines())
def test_ablation_as_printed(line: str) -> None:
    *words, localization, areas = line.split()
    row = " ".join(words)
    assert two(*(published_ablation("imagenet-seg", "ViT-B", row, metric) for metric in METRICS)) == localization
    found = two(*(published_ablation("imagenet", "ViT-B", row, order) for order in ORDERS))
    assert found == ("-/-" if areas == "-" else areas)


@pytest.mark.parametrize(
    ("model", "backbone"),
    [
        ("timm:deit_base_patch16_224", "DeiT"),
        ("timm:deit_base_patch16_224.fb_in1k", "DeiT"),
        ("timm:vit_base_patch16_224.augreg2_in21k_ft_in1k", "ViT-B"),
        ("hf:google/vit-large-patch16-224", "ViT-L"),
        ("timm:vit_base_patch16_224.augreg_in21k", None),
        ("timm:vit_base_patch16_224.dino", None),
        ("timm:vit_base_patch32_224.augreg_in1k", None),
        ("timm:deit_base_distilled_patch16_224", None),
        ("timm:deit_small_patch16_224.fb_in1k", None),
        ("timm:deit3_base_patch16_224.fb_in1k", None),
        ("scenes-classifier", None),
    ],
)
def test_backbones(model: str, backbone: str | None) -> None:
    assert backbone_of(model) == backbone


def test_what_is_not_published() -> None:
    assert published_localization("scenes", "DeiT", "gae", "mIoU") is None
    assert published_localization("imagenet-seg", "ViT-B", "gae", "mIoU") is None
    assert published_localization("imagenet-seg", "DeiT", "legrad", "mIoU") is None
    assert published_area("imagenet", False, "gae", "negative") is None
    assert published_area("scenes", True, "gae", "negative") is None
    assert published_area("imagenet", True, "gae", "random") is None
    assert published_probability("imagenet", "DeiT", "gae", "AOPC") is None
    assert published_probability("cifar10", "ViT-B", "gae", "AOPC") is None
    assert published_ablation("imagenet", "ViT-L", "+ L", "positive") is None
    assert published_ablation("imagenet", "ViT-B", "first 4 blocks", "positive") is None
    assert published_ablation("scenes", "ViT-B", "+ L", "positive") is None
