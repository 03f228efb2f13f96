"""open_clip: native towers, a timm tower, and whole models given an image or token ids."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tests.builders.case import CHANNELS, DEPTH, HEADS, VOCABULARY, Case

LENGTH = 9
_VISION = {"image_size": 32, "patch_size": 8, "width": CHANNELS, "layers": DEPTH, "head_width": CHANNELS // HEADS}
_TIMM = {
    "timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "token", "timm_proj": "linear",
    "image_size": 32,
}  # fmt: skip
_TEXT = {
    "context_length": LENGTH, "vocab_size": VOCABULARY, "width": CHANNELS, "heads": HEADS, "layers": DEPTH,
}  # fmt: skip


def clip() -> nn.Module:
    from open_clip.model import CLIP

    return CLIP(embed_dim=16, vision_cfg=dict(_VISION), text_cfg=dict(_TEXT))


def clip_with_timm_tower() -> nn.Module:
    from open_clip.model import CustomTextCLIP

    return CustomTextCLIP(embed_dim=16, vision_cfg=dict(_TIMM), text_cfg=dict(_TEXT))


def _see(model: Any, inputs: Tensor) -> Any:
    return model.encode_image(inputs)


def _read(model: Any, inputs: Tensor) -> Any:
    return model.encode_text(inputs)


_IMAGE: dict[str, Any] = {"shape": (2, 3, 32, 32), "tokens": 17, "prefix": 1, "grid": (4, 4)}
_IDS: dict[str, Any] = {"shape": (2, LENGTH), "tokens": LENGTH}

CASES = [
    Case("open_clip-vision-tower", lambda: clip().visual, blocks="transformer.resblocks", **_IMAGE),
    Case("open_clip-clip-image", clip, blocks="visual.transformer.resblocks", call=_see, **_IMAGE),
    Case("open_clip-clip-text", clip, blocks="transformer.resblocks", call=_read, **_IDS),
    Case("open_clip-text-tower", lambda: clip_with_timm_tower().text, blocks="transformer.resblocks", **_IDS),
    Case(
        "open_clip-timm-tower", lambda: clip_with_timm_tower().visual, blocks="trunk.blocks",
        shape=(2, 3, 32, 32), tokens=5, prefix=1, grid=(2, 2), depth=6,
    ),
    Case(
        "open_clip-timm-clip-image", clip_with_timm_tower, blocks="visual.trunk.blocks", call=_see,
        shape=(2, 3, 32, 32), tokens=5, prefix=1, grid=(2, 2), depth=6,
    ),
    Case("open_clip-timm-clip-text", clip_with_timm_tower, blocks="text.transformer.resblocks", call=_read, **_IDS),
]  # fmt: skip
