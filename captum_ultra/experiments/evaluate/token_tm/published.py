"""Numbers that the TokenTM paper (arXiv 2403.14552) reports: in percent, areas times 100, or as differences."""

from __future__ import annotations

import re

__all__ = ["backbone_of", "published_ablation", "published_area", "published_localization", "published_probability"]

# DeiT, ViT-B and ViT-L stand in the paper without their patches and weights: 16 pixels and ImageNet, as is usual.
_BACKBONES = {
    r"timm:deit_base_patch16_224(\.fb_in1k)?|hf:facebook/deit-base-patch16-224": "DeiT",
    r"timm:vit_base_patch16_224(\.\w*_in1k)?|hf:google/vit-base-patch16-224": "ViT-B",
    r"timm:vit_large_patch16_224(\.\w*_in1k)?|hf:google/vit-large-patch16-224": "ViT-L",
}

_LOCALIZATION = ("pixel accuracy", "mAP", "mIoU")
_ORDERS = ("negative", "positive")
_TABLES: dict[str, tuple[tuple[float, float, float], dict[str, tuple[float, float]], tuple[float, ...]]] = {
    # Localisation; areas by data set, least and most important first; AOPC of ViT-B and ViT-L, log-odds of both.
    "grad_cam": (
        (67.37, 79.20, 46.13),
        {"cifar10": (61.24, 47.32), "cifar100": (47.18, 41.91), "imagenet": (43.84, 26.11)},
        (0.557, 0.457, -4.020, -3.023),
    ),
    "lrp": (
        (50.96, 55.87, 32.82),
        {"cifar10": (72.62, 72.14), "cifar100": (46.76, 46.31), "imagenet": (42.55, 41.29)},
        (0.474, 0.508, -3.259, -3.634),
    ),
    "conservative_lrp": (
        (64.06, 68.01, 36.23),
        {"cifar10": (44.92, 49.15), "cifar100": (27.11, 27.99), "imagenet": (33.24, 34.35)},
        (0.613, 0.614, -4.272, -4.443),
    ),
    "transformer_attribution": (
        (79.17, 85.81, 61.02),
        {"cifar10": (67.65, 43.64), "cifar100": (44.65, 24.99), "imagenet": (57.48, 19.00)},
        (0.721, 0.716, -5.622, -5.541),
    ),
    "raw_attention": (
        (59.07, 76.51, 36.36),
        {"cifar10": (58.46, 47.17), "cifar100": (37.23, 28.62), "imagenet": (48.70, 25.44)},
        (0.652, 0.655, -4.911, -4.961),
    ),
    "rollout": (
        (59.01, 73.76, 39.43),
        {"cifar10": (64.88, 42.89), "cifar100": (41.34, 24.96), "imagenet": (43.23, 32.34)},
        (0.688, 0.689, -5.259, -5.183),
    ),
    "attcat": (
        (43.88, 48.38, 27.90),
        {"cifar10": (41.78, 42.66), "cifar100": (23.52, 22.15), "imagenet": (32.34, 31.71)},
        (0.641, 0.645, -4.461, -4.622),
    ),
    "gae": (
        (79.05, 85.71, 61.56),
        {"cifar10": (71.67, 37.77), "cifar100": (52.14, 17.52), "imagenet": (57.53, 15.88)},
        (0.714, 0.699, -5.437, -5.601),
    ),
    "token_tm": (
        (81.79, 86.45, 64.22),
        {"cifar10": (74.90, 37.14), "cifar100": (54.78, 16.07), "imagenet": (58.12, 15.75)},
        (0.764, 0.726, -5.781, -5.755),
    ),
}
_ABLATION: dict[str, tuple[tuple[float, float, float], tuple[float, float] | None]] = {
    "baseline": ((52.94, 67.78, 33.42), (44.92, 31.95)),
    "+ aggregation": ((76.30, 85.28, 58.34), (55.25, 16.98)),
    "+ L": ((77.50, 85.39, 59.59), (55.03, 16.28)),
    "+ NECC": ((78.22, 85.69, 60.29), (55.42, 16.18)),
    "first 3 blocks": ((63.63, 76.40, 42.99), None),
    "first 6 blocks": ((68.38, 80.35, 48.66), None),
    "first 9 blocks": ((70.46, 81.74, 51.11), None),
}


def backbone_of(model: str) -> str | None:
    """The paper's name of a model; None if it does not report it.

    Example:
        >>> backbone_of("timm:vit_base_patch16_224.augreg_in21k_ft_in1k"), backbone_of("timm:deit_tiny_patch16_224")
        ('ViT-B', None)
    """
    return next((name for pattern, name in _BACKBONES.items() if re.fullmatch(pattern, model)), None)


def published_localization(data: str, backbone: str | None, method: str, metric: str) -> float | None:
    """Table 1, in percent: "pixel accuracy", "mAP" or "mIoU"; None if not reported.

    Example:
        >>> published_localization("imagenet-seg", "DeiT", "token_tm", "mIoU")
        64.22
    """
    if data != "imagenet-seg" or backbone != "DeiT" or method not in _TABLES:
        return None
    return dict(zip(_LOCALIZATION, _TABLES[method][0], strict=True)).get(metric)


def published_area(data: str, comparable: bool, method: str, order: str) -> float | None:
    """Tables 2 to 4, of the predicted class: "negative" or "positive" order; None if not reported.

    Which model they belong to is not known here, so the caller says what is comparable.

    Example:
        >>> published_area("cifar10", True, "gae", "positive")
        37.77
    """
    if not comparable or method not in _TABLES:
        return None
    return dict(zip(_ORDERS, _TABLES[method][1].get(data, ()), strict=False)).get(order)


def published_probability(data: str, backbone: str | None, method: str, metric: str) -> float | None:
    """Table 5: "AOPC" or "log-odds"; None if not reported.

    Example:
        >>> published_probability("imagenet", "ViT-L", "token_tm", "AOPC")
        0.726
    """
    if data != "imagenet" or backbone not in ("ViT-B", "ViT-L") or method not in _TABLES:
        return None
    columns = (("AOPC", "ViT-B"), ("AOPC", "ViT-L"), ("log-odds", "ViT-B"), ("log-odds", "ViT-L"))
    return dict(zip(columns, _TABLES[method][2], strict=True)).get((metric, backbone))


def published_ablation(data: str, backbone: str | None, row: str, metric: str) -> float | None:
    """Tables 6 and 7, of ViT-B: a metric of localisation, or the order of an area; None if not reported.

    Example:
        >>> published_ablation("imagenet", "ViT-B", "+ L", "positive")
        16.28
    """
    if backbone != "ViT-B" or row not in _ABLATION:
        return None
    localization, areas = _ABLATION[row]
    if data == "imagenet-seg":
        return dict(zip(_LOCALIZATION, localization, strict=True)).get(metric)
    return dict(zip(_ORDERS, areas or (), strict=False)).get(metric) if data == "imagenet" else None
