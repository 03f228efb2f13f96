"""Numbers that the ULTra paper (arXiv 2411.12589) reports, in percent or as distances of latent tokens."""

from __future__ import annotations

__all__ = ["backbone_of", "published_itiou", "published_perturbation", "published_segmentation"]

_BACKBONES = {
    "open_clip:ViT-B-32/openai": "CLIP B/32",
    "open_clip:ViT-B-16/openai": "CLIP B/16",
    "open_clip:ViT-L-14/openai": "CLIP L/14",
    "hf:openai/clip-vit-base-patch32": "CLIP B/32",
    "hf:openai/clip-vit-base-patch16": "CLIP B/16",
    "hf:openai/clip-vit-large-patch14": "CLIP L/14",
    "timm:vit_small_patch16_224.dino": "DINO S/16",
    "timm:vit_base_patch16_224.dino": "DINO B/16",
    "hf:facebook/dino-vits16": "DINO S/16",
    "hf:facebook/dino-vitb16": "DINO B/16",
}

_COLUMNS = (
    ("coco-stuff", "U.ACC"), ("coco-stuff", "U.mIoU"), ("voc", "U.mIoU"), ("cityscapes", "U.mIoU"),
    ("potsdam", "U.ACC"),
)  # fmt: skip
_SEGMENTATION = {
    ("CLIP B/32", "ULTra_W"): (60.6, 34.1, 51.2, 17.6, 78.7),
    ("CLIP B/32", "ULTra_S"): (60.8, 34.6, 49.2, 17.1, 78.3),
    ("CLIP B/32", "ULTra_E"): (59.5, 32.6, 50.0, 20.4, 78.1),
    ("CLIP B/16", "ULTra_W"): (63.8, 34.0, 50.9, 24.8, 80.9),
    ("CLIP B/16", "ULTra_S"): (63.0, 33.2, 48.3, 24.2, 80.9),
    ("CLIP B/16", "ULTra_E"): (53.6, 26.6, 40.0, 20.9, 70.4),
    ("CLIP L/14", "ULTra_W"): (67.9, 38.2, 49.1, 25.1, 82.4),
    ("CLIP L/14", "ULTra_S"): (66.5, 37.5, 48.7, 24.2, 82.8),
    ("CLIP L/14", "ULTra_E"): (59.0, 31.7, 45.2, 23.0, 75.5),
    ("DINO S/16", "ULTra_W"): (67.2, 34.4, 48.9, 25.8, 79.0),
    ("DINO S/16", "ULTra_S"): (66.4, 33.3, 47.9, 24.2, 77.4),
    ("DINO S/16", "ULTra_E"): (63.4, 31.6, 46.9, 22.9, 75.7),
    ("DINO B/16", "ULTra_W"): (67.4, 37.7, 50.5, 26.5, 80.7),
    ("DINO B/16", "ULTra_S"): (67.3, 35.6, 50.0, 25.7, 80.8),
    ("DINO B/16", "ULTra_E"): (63.0, 31.3, 46.7, 23.0, 76.8),
}
_AT_DISTANCE = {
    ("coco-stuff", "U.ACC"): 67.2, ("coco-stuff", "U.mIoU"): 32.9, ("voc", "U.mIoU"): 51.9, ("potsdam", "U.ACC"): 74.6,
}  # fmt: skip
_ZETA = 0.4
_ITIOU = {"coco-stuff": 37.84, "voc": 39.51}
_TAU = 0.2
_PERTURBATION = {  # negative, positive
    ("voc", "CLIP B/32", "mask"): (13.16, 15.51), ("voc", "CLIP B/32", "noise"): (6.97, 10.23),
    ("voc", "CLIP B/16", "mask"): (14.68, 17.5), ("voc", "CLIP B/16", "noise"): (9.87, 14.03),
    ("voc", "CLIP L/14", "mask"): (6.66, 9.43), ("voc", "CLIP L/14", "noise"): (4.45, 7.88),
    ("coco-stuff", "CLIP B/32", "mask"): (12.62, 15.21), ("coco-stuff", "CLIP B/32", "noise"): (6.83, 10.26),
    ("coco-stuff", "CLIP B/16", "mask"): (14.16, 17.39), ("coco-stuff", "CLIP B/16", "noise"): (10.14, 14.12),
    ("coco-stuff", "CLIP L/14", "mask"): (6.38, 9.31), ("coco-stuff", "CLIP L/14", "noise"): (4.27, 7.74),
}  # fmt: skip


def backbone_of(model: str) -> str | None:
    """The paper's name of a model's weights; None if it does not report them.

    Example:
        >>> backbone_of("open_clip:ViT-B-32-quickgelu/openai")
        'CLIP B/32'
    """
    return _BACKBONES.get(model.replace("-quickgelu", ""))


def published_segmentation(data: str, backbone: str | None, name: str, metric: str, zeta: float | None) -> float | None:
    """U.ACC or U.mIoU in percent, at the oracle's k (zeta None) or at a distance; None if not reported.

    The backbone and the score of the row at distance 0.4 are not known here, so it stands beside every one.

    Example:
        >>> published_segmentation("voc", "CLIP B/32", "ULTra_S", "U.mIoU", zeta=None)
        49.2
    """
    if backbone is None:
        return None
    if zeta is not None:
        return _AT_DISTANCE.get((data, metric)) if zeta == _ZETA else None
    reported = _SEGMENTATION.get((backbone, name))
    return None if reported is None else dict(zip(_COLUMNS, reported, strict=True)).get((data, metric))


def published_itiou(data: str, backbone: str | None, tau: float) -> float | None:
    """ITIoU in percent at tau = 0.2, whose backbone and score are not known here; None if not reported.

    Example:
        >>> published_itiou("voc", "CLIP B/16", tau=0.2)
        39.51
    """
    return _ITIOU.get(data) if backbone is not None and tau == _TAU else None


def published_perturbation(data: str, backbone: str | None, mode: str, order: str) -> float | None:
    """The distance for the order "negative" or "positive"; share of patches and score are not known here.

    Example:
        >>> published_perturbation("voc", "CLIP B/32", "mask", "positive")
        15.51
    """
    reported = _PERTURBATION.get((data, backbone or "", mode))
    return None if reported is None else dict(zip(("negative", "positive"), reported, strict=True)).get(order)
