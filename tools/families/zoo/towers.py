"""open_clip in its own and borrowed towers, torchvision, torch itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn

from tools.families.case import Case, floats, text

LENGTH, VOCABULARY = 10, 50
_VISION: dict[str, Any] = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "head_width": 8}
_TEXT: dict[str, Any] = {"context_length": LENGTH, "vocab_size": VOCABULARY, "width": 32, "heads": 4, "layers": 3}
_TIMM: dict[str, Any] = {"timm_model_name": "test_vit", "timm_model_pretrained": False, "timm_pool": "token",
                         "timm_proj": "linear", "image_size": 32}  # fmt: skip
_picture, _vectors = partial(floats, 2, 3, 32, 32), partial(floats, 2, 10, 32)


def cases() -> Iterator[Case]:
    group = "open_clip"
    for label, vision, expected in (
        ("native", {}, "exact"), ("average pooling", {"pool_type": "avg"}, "exact"),
        ("attentional pooling", {"attentional_pool": True, "attn_pooler_heads": 4}, "exact"),
        ("sine positions", {"pos_embed_type": "sin_cos_2d"}, "exact"), ("layer scale", {"ls_init_value": 0.5}, "exact"),
        ("no norm before", {"no_ln_pre": True}, "exact"), ("ResNet", {"layers": (1, 1, 1, 1), "width": 16}, "refused"),
        ("timm", None, "exact"),
    ):  # fmt: skip
        settings = dict(_TIMM) if vision is None else {**_VISION, **vision}
        yield Case(f"CLIP, {label}, picture", group, partial(_clip, settings), _picture, expected)
    yield Case("CLIP, vision tower", group, lambda: _clip(_VISION).visual, _picture, "exact")
    for label, settings in (("native", {}), ("without mask", {"no_causal_mask": True}),
                            ("quick", {"quick_gelu_cfg": None}), ("appended CLS", {"embed_cls": True}),
                            ("layer scale", {"ls_init_value": 0.5})):  # fmt: skip
        settings = {**_TEXT, **{name: value for name, value in settings.items() if value is not None}}
        yield Case(f"CLIP, {label}, ids", group, partial(_clip, _VISION, settings), text, run=_read)
        yield Case(f"CustomTextCLIP, {label}, text tower", group, partial(_text_tower, settings), text)
    for part, inputs in (("picture", _picture), ("ids", text)):
        yield Case(f"CoCa, {part}", group, _coca, inputs, run=_untried)
    yield Case("CoCa, vision tower", group, lambda: _coca().visual, _picture, "exact")
    yield Case("CoCa, text tower", group, lambda: _coca().text, text)
    yield Case("CustomTextCLIP, RoBERTa text tower", group, _roberta_tower, text, "exact")
    yield from _torchvision()
    yield from _torch()


def _clip(vision: dict[str, Any], of_text: dict[str, Any] = _TEXT) -> Any:
    from open_clip.model import CLIP

    return CLIP(embed_dim=16, vision_cfg=dict(vision), text_cfg=dict(of_text))


def _text_tower(settings: dict[str, Any]) -> Any:
    from open_clip.model import CustomTextCLIP

    return CustomTextCLIP(embed_dim=16, vision_cfg=dict(_VISION), text_cfg=dict(settings)).text


def _coca() -> Any:
    from open_clip.coca_model import CoCa

    return CoCa(
        embed_dim=32, multimodal_cfg={**_TEXT, "mlp_ratio": 2, "ls_init_value": None, "attn_pooler_heads": 4,
                                      "dim_head": 8},
        text_cfg={**_TEXT, "embed_cls": True, "output_tokens": True, "context_length": LENGTH},
        vision_cfg={**_VISION, "attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True},
    )  # fmt: skip


def _roberta_tower() -> nn.Module:
    from open_clip.hf_model import HFTextEncoder

    from tools.families.zoo.shrink import small

    return HFTextEncoder("roberta-base", output_dim=16, config=small("Roberta"), pooler_type="mean_pooler",
                         proj_type="linear", pretrained=False)  # fmt: skip


def _read(model: Any, inputs: Any, extra: Any) -> Any:
    return model.encode_text(inputs)


def _untried(model: Any, inputs: Any, extra: Any) -> None:
    """A whole model wants both inputs."""


def _torchvision() -> Iterator[Case]:
    import torchvision.models as models

    group = "torchvision"
    vit = partial(models.VisionTransformer, 32, 8, 3, 4, 32, 64, num_classes=5)
    yield Case("torchvision VisionTransformer", group, vit, _picture, "exact")
    yield Case("torchvision swin_t", group, lambda: models.SwinTransformer([4, 4], 16, [1, 1], [1, 2], [4, 4]),
               partial(floats, 2, 3, 64, 64), "refused")  # fmt: skip
    yield Case("torchvision swin_v2_t", group, models.swin_v2_t, partial(floats, 1, 3, 64, 64), "refused")
    max_vit = partial(models.MaxVit, (64, 64), 16, 2, [16, 16], [1, 1], 8, 0.0, num_classes=5)
    yield Case("torchvision MaxVit", group, max_vit, partial(floats, 2, 3, 64, 64), "refused")
    yield Case("torchvision resnet18", group, models.resnet18, partial(floats, 2, 3, 64, 64), "refused")


def _torch() -> Iterator[Case]:
    group = "torch"
    for norm_first in (True, False):
        for batch_first in (True, False):
            label = f"norm_first={norm_first}, batch_first={batch_first}"
            inputs = _vectors if batch_first else partial(floats, 10, 2, 32)
            yield Case(f"nn.TransformerEncoder, {label}", group, partial(_encoder, norm_first, batch_first), inputs,
                       "exact")  # fmt: skip

    def mask() -> torch.Tensor:
        padding = torch.zeros(2, 10, dtype=torch.bool)
        padding[1, 7:] = True
        return padding

    for nested in (False, True):
        yield Case(f"nn.TransformerEncoder, src_key_padding_mask, nested={nested}", group,
                   partial(_encoder, True, True, nested), _vectors, "exact",
                   extra=lambda: {"src_key_padding_mask": mask()})  # fmt: skip
    yield Case("nn.TransformerEncoder, causal mask", group, partial(_encoder, True, True), _vectors, "exact",
               extra=lambda: {"mask": nn.Transformer.generate_square_subsequent_mask(10)})  # fmt: skip
    yield Case("nn.TransformerDecoder", group, lambda: nn.TransformerDecoder(
        nn.TransformerDecoderLayer(32, 4, 48, batch_first=True), 2), _vectors, "refused",
        extra=lambda: (floats(2, 10, 32).float(),))  # fmt: skip


def _encoder(norm_first: bool, batch_first: bool, nested: bool = False) -> nn.Module:
    layer = nn.TransformerEncoderLayer(32, 4, 48, norm_first=norm_first and not nested, batch_first=batch_first)
    return nn.TransformerEncoder(layer, 3, enable_nested_tensor=nested)
