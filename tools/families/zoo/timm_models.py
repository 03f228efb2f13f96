"""Vision models of timm: the plain ones in every variant that differs in more than size, and the others once each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from torch import nn

from tools.families.case import Case, floats

SMALL: dict[str, Any] = {"img_size": (32, 48), "patch_size": 8, "depth": 3, "embed_dim": 32, "num_heads": 4}
PLAIN = """
aimv2_1b_patch14_224 beit3_base_patch16_224 eva_large_patch14_196 flexivit_base test_vit2 test_vit3 test_vit4
vit_base_patch8_224 vit_base_patch14_dinov2 vit_base_patch14_reg1_tipsv2 vit_base_patch14_reg4_dinov2
vit_base_patch16_224_miil vit_base_patch16_clip_224 vit_base_patch16_clip_quickgelu_224
vit_base_patch16_gap_224 vit_base_patch16_radio_v3 vit_base_patch16_reg4_gap_256 vit_base_patch16_rpn_224
vit_base_patch16_siglip_224 vit_base_patch16_xp_224 vit_base_patch32_siglip_256 vit_base_patch32_siglip_gap_256
vit_betwixt_patch16_gap_256 vit_betwixt_patch16_reg1_gap_256 vit_betwixt_patch16_reg4_gap_256
vit_giant_patch14_dinov2 vit_giant_patch14_reg1_tipsv2
vit_giant_patch14_reg4_dinov2 vit_giant_patch16_radio_v3 vit_huge_patch16_radio_v4 vit_intern300m_patch14_448
vit_pwee_patch16_reg1_gap_256 vit_so150m2_patch16_reg1_gap_256 vit_so150m_patch16_reg4_gap_256
vit_so150m_patch16_reg4_map_256 eva02_base_patch14_224 eva02_base_patch16_clip_224 eva02_enormous_patch14_clip_224
eva02_small_patch14_224 eva_giant_patch14_224 eva_giant_patch14_clip_224 vit_7b_patch16_dinov3 vit_base_patch16_dinov3
vit_base_patch16_lingbot vit_base_patch16_rope_224 vit_base_patch16_rope_ape_224 vit_base_patch16_rope_mixed_224
vit_base_patch16_rope_mixed_ape_224 vit_base_patch16_rope_reg1_gap_256 vit_betwixt_patch16_rope_reg4_gap_256
vit_giant_patch16_lingbot vit_pe_core_base_patch16_224 vit_pe_core_gigantic_patch14_448
vit_pe_lang_gigantic_patch14_448 vit_pe_lang_large_patch14_448 beit_base_patch16_224 deit3_base_patch16_224
deit_base_distilled_patch16_224 naflexvit_base_patch16_gap naflexvit_base_patch16_map naflexvit_base_patch16_par_gap
naflexvit_base_patch16_parfac_gap naflexvit_base_patch16_radio_v3 naflexvit_base_patch16_siglip
naflexvit_giant_patch16_radio_v3 naflexvit_huge_patch16_radio_v4 naflexvit_so150m2_patch16_reg1_gap
naflexvit_so150m2_patch16_reg1_map test_vit_relpos vit_relpos_base_patch16_cls_224 vit_relpos_base_patch16_clsgap_224
vit_relpos_base_patch16_plus_240 vit_relpos_base_patch16_rpn_224 vit_relpos_base_patch32_plus_rpn_256
vit_srelpos_medium_patch16_224 deepseek_vit_412m deepseek_vit_412m_align deepseek_vit_412m_enc gemma4_vit_167m
qwen3_vit_88m qwen3_vit_88m_enc qwen3_vit_88m_merge qwen3_vit_306m_enc
qwen3_vit_306m_merge qwen3_vit_416m_enc
"""
SETTINGS: dict[str, dict[str, Any]] = {
    "vit_base_patch16_sapiens2": {**SMALL, "num_kv_heads": (4, 2, 4)},
    **{f"vit_{size}": {"img_size": (64, 96), "depth": 2, "embed_dim": 32, "num_heads": 4} for size in (
        "base_r26_s32_224", "base_r50_s16_224", "base_resnet26d_224")},
    "vit_tiny_r_s16_p8_224": {"img_size": (128, 256), "depth": 2, "embed_dim": 32, "num_heads": 4},
    "vitamin_small_224": {"img_size": (64, 96), "depth": 2},
    "gemma4_vit_167m_enc": {**SMALL, "img_size": (48, 72)}, "gemma4_vit_570m_enc": {**SMALL, "img_size": (48, 72)},
    "vit_base_mci_224": {"img_size": (64, 96), "depth": 2},
}  # fmt: skip
OTHERS: dict[str, Any] = {
    # Two attentions in a block.
    "vit_base_patch16_18x2_224": {**SMALL, "img_size": 32},
    "vit_dlittle_patch16_reg1_gap_256": {**SMALL, "img_size": 32},
    "vit_dpwee_patch16_reg1_gap_256": {**SMALL, "img_size": 32},
    "swin_tiny_patch4_window7_224": {"img_size": 64, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2),
                                     "window_size": 4},
    "swinv2_tiny_window8_256": {"img_size": 64, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2),
                                "window_size": 4},
    "swinv2_cr_tiny_224": {"img_size": 64, "window_size": 2, "embed_dim": 16, "depths": (1, 1), "num_heads": (1, 2)},
    "hiera_tiny_224": {"img_size": 64, "embed_dim": 16, "stages": (1, 1, 1, 1)},
    "cait_xxs24_224": {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 4},
    "convit_tiny": {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 4},
    "xcit_nano_12_p16_224": {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 4},
    "samvit_base_patch16": {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 4},
    "samvit_base_patch16_224": {"img_size": 64, "embed_dim": 32, "depth": 2, "num_heads": 4},
    "tnt_s_patch16_224": {"img_size": 64, "depth": 2},
}  # fmt: skip
LARGE = """
volo_d1_224 botnet26t_256 davit_tiny visformer_tiny coat_tiny coat_lite_tiny pit_ti_224 pvt_v2_b0 twins_svt_small
twins_pcpvt_small nest_tiny
gcvit_xxtiny levit_128s levit_conv_128s crossvit_tiny_240 crossvit_9_dagger_240 maxvit_rmlp_pico_rw_256
coatnet_pico_rw_224 coatnext_nano_rw_224 mvitv2_tiny mvitv2_small_cls efficientvit_b0 efficientvit_m0 edgenext_xx_small
efficientformer_l1 efficientformerv2_s0 focalnet_tiny_srf swiftformer_xs tiny_vit_5m_224 sam2_hiera_tiny hieradet_small
pit_s_distilled_224 mixer_s32_224 gmlp_s16_224
"""
"""Of the size that their names say, or 224 pixels."""
SMALLER = """
caformer_s18 poolformer_s12 convformer_s18 lambda_resnet26t mobilevit_xxs mobilevitv2_050
fastvit_sa12 nextvit_small repvit_m0_9 shvit_s1 mobilenetv4_hybrid_medium resnet10t convnext_atto mambaout_femto
efficientvim_m1 lowformer_b0 iformer_t cpubone_b0_bfrobust csatv2 sequencer2d_s iformer_m resnetv2_18 fastvit_mci0
"""
"""At home in 96 pixels."""


def cases() -> Iterator[Case]:
    for name in PLAIN.split():
        yield _case(name, SMALL, (32, 48), "exact")
    for name, settings in SETTINGS.items():
        size = settings["img_size"]
        yield _case(name, settings, size, "exact")
    for name, settings in OTHERS.items():
        yield _case(name, settings, (settings["img_size"],) * 2, "refused", "timm, others")
    for name in LARGE.split():
        size = next((int(end) for end in ("240", "256") if name.endswith(end)), 224)
        yield _case(name, {}, (size, size), "refused", "timm, others")
    for name in SMALLER.split():
        yield _case(name, {}, (96, 96), "refused", "timm, others")
    yield from _towers()


def _case(
    name: str, settings: dict[str, Any], size: tuple[int, int], expected: str, group: str = "timm, plain"
) -> Case:
    return Case(name, group, partial(_build, name, settings), partial(floats, 2, 3, *size), expected)


def _build(name: str, settings: dict[str, Any]) -> nn.Module:
    import timm

    return timm.create_model(name, pretrained=False, num_classes=5, **settings)


def _towers() -> Iterator[Case]:
    """What users do to plain models: dynamic sizes, feature extraction, fused attention off."""
    for label, settings, size in (
        ("dynamic size", {"dynamic_img_size": True}, (48, 24)), ("no head", {"num_classes": 0}, (32, 48)),
        ("padded", {"dynamic_img_pad": True, "dynamic_img_size": True}, (30, 45)),
        ("features", {"features_only": True}, (32, 48)), ("one head", {"num_heads": 1}, (32, 48)),
        ("no position", {"pos_embed": "none"}, (32, 48)), ("one channel", {"in_chans": 1}, (32, 48)),
    ):  # fmt: skip
        channels = 1 if label == "one channel" else 3
        yield Case(f"vit_small_patch16_224, {label}", "timm, plain", partial(_variant, settings),
                   partial(floats, 2, channels, *size), "exact")  # fmt: skip


def _variant(settings: dict[str, Any]) -> nn.Module:
    import timm

    return timm.create_model("vit_small_patch16_224", pretrained=False, **{"num_classes": 5, **SMALL, **settings})
