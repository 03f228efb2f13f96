"""timm: every plain vision transformer, shrunk by overrides of its own registered configuration."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import nn

from tests.builders.case import CHANNELS, DEPTH, HEADS, Case


def build(name: str, **overrides: Any) -> nn.Module:
    import timm

    tiny = {"img_size": 32, "embed_dim": CHANNELS, "depth": DEPTH, "num_heads": HEADS, "num_classes": 5}
    return timm.create_model(name, pretrained=False, **{**tiny, **overrides})


def _case(
    label: str, name: str, prefix: int, shape: tuple[int, ...] = (2, 3, 32, 32), patch: int = 8, **overrides: Any
) -> Case:
    rows, columns = shape[2] // patch, shape[3] // patch
    return Case(
        f"timm-{label}", partial(build, name, patch_size=patch, **overrides), shape, "blocks",
        tokens=prefix + rows * columns, prefix=prefix, grid=(rows, columns),
    )  # fmt: skip


CASES = [
    _case("vit", "vit_small_patch16_224", 1),
    _case("vit-nonsquare", "vit_small_patch16_224", 1, (2, 3, 32, 48), img_size=(32, 48)),
    _case("vit-dynamic", "vit_small_patch16_224", 1, (2, 3, 48, 24), dynamic_img_size=True),
    _case("deit-distilled", "deit_small_distilled_patch16_224", 2),
    _case("dinov2-registers", "vit_small_patch14_reg4_dinov2", 5),
    _case("siglip", "vit_base_patch16_siglip_224", 0),
    _case("eva02", "eva02_tiny_patch14_224", 1, mlp_ratio=2),
    _case("dinov3", "vit_small_patch16_dinov3", 5),
    _case("beit", "beit_base_patch16_224", 1),
    _case("relpos", "vit_relpos_small_patch16_224", 0),
    _case("relpos-cls", "vit_relpos_base_patch16_cls_224", 1),
]
