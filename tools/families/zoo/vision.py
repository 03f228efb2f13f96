"""Vision models of transformers: all that its registries name, the towers of image-text models, videos."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor

from tools.families.case import Case, floats, text
from tools.families.zoo.shrink import HEADS, WIDTH, build

REGISTRIES = ("IMAGE", "IMAGE_CLASSIFICATION", "BACKBONE", "DEPTH_ESTIMATION", "SEMANTIC_SEGMENTATION")
SKIPPED = (
    "TimmBackbone", "TimmWrapperModel", "TimmWrapperForImageClassification", "MllamaVisionModel", "ImageGPTModel",
    "ImageGPTForImageClassification", "Cohere2VisionModel", "ShieldGemma2ForImageClassification",
    "DepthProForDepthEstimation", "PerceiverForImageClassificationLearned", "PerceiverForImageClassificationFourier",
    "PerceiverForImageClassificationConvProcessing",
)  # fmt: skip
"""Wrappers, models of ids, and those that are tried otherwise."""
TOWERS = """
CLIPVisionModel CLIPVisionModelWithProjection SiglipVisionModel BlipVisionModel Blip2VisionModel
InstructBlipVisionModel OwlViTVisionModel Owlv2VisionModel InternVLVisionModel idefics2:Idefics2VisionTransformer
Idefics3VisionTransformer SmolVLMVisionTransformer AltCLIPVisionModel ChineseCLIPVisionModel
GitVisionModel JanusVisionModel FlavaImageModel Aimv2VisionModel MLCDVisionModel Llama4VisionModel
GroupViTVisionModel CLIPSegVisionModel MetaClip2VisionModel PixtralVisionModel   RadioModel SamVisionModel Sam3ViTModel
Phi4MultimodalVisionModel QianfanOCRVisionModel InstructBlipVideoVisionModel
Tipsv2VisionModel VideoPrismVisionModel MgpstrForSceneTextRecognition
ViTForMaskedImageModeling YolosForObjectDetection DetrModel DPTForDepthEstimation LayoutLMv3Model
"""
VIDEOS = {"VideoMAEModel": (2, 4, 3, 32, 32), "VivitModel": (2, 4, 3, 32, 32), "VJEPA2Model": (2, 4, 3, 32, 32),
          "TimesformerModel": (2, 4, 3, 32, 32)}  # fmt: skip
_SWIN = {"embed_dim": 48, "num_heads": [3, 6], "depths": [1, 1], "window_size": 4, "patch_size": 4}
_DEPTH_ANYTHING = {
    "backbone_config": {
        "model_type": "dinov2", "hidden_size": WIDTH, "num_hidden_layers": 4, "num_attention_heads": HEADS,
        "image_size": 32, "patch_size": 8, "out_features": ["stage1", "stage2", "stage3", "stage4"],
        "reshape_hidden_states": False,
    },
    "neck_hidden_sizes": [8, 8, 16, 16], "fusion_hidden_size": 8, "reassemble_hidden_size": WIDTH, "patch_size": 8,
    "depth_estimation_type": "relative",
}  # fmt: skip
SETTINGS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("Swin", "Swinv2", "DonutSwin", "MaskFormerSwin"), _SWIN), "Swin2SR": {**_SWIN, "patch_size": 1},
    "Levit": {"image_size": 224, "patch_size": 16}, "DepthAnything": _DEPTH_ANYTHING,
    "PromptDepthAnything": _DEPTH_ANYTHING, "VideoMAE": {"num_frames": 4}, "Timesformer": {"num_frames": 4},
    "Vivit": {"num_frames": 4, "tubelet_size": [2, 8, 8]},
    "Segformer": {"depths": [1, 1, 1, 2]},
    "LayoutLMv3": {"input_size": 32}, "VitPose": {"image_size": [32, 32]},
    "DPTFor": {"num_hidden_layers": 4, "backbone_out_indices": [0, 1, 2, 3], "neck_hidden_sizes": [8, 8, 16, 16],
               "fusion_hidden_size": 8},
    "Llama4": {"intermediate_size": 128, "projector_input_dim": 32, "projector_output_dim": 32},
    "GroupViT": {"depths": [2, 1, 1], "num_group_tokens": [8, 4, 0], "num_output_groups": [8, 4, 1], "hidden_size": 32},
}  # fmt: skip
SIZES: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(("LevitModel", "LevitForImageClassification"), (2, 3, 224, 224)),
    **dict.fromkeys(
        (
            "ConvNextModel",
            "ConvNextV2Model",
            "ConvNextForImageClassification",
            "ConvNextV2ForImageClassification",
            "ConvNextBackbone",
            "ConvNextV2Backbone",
            "SegformerModel",
            "SegformerForImageClassification",
        ),
        (2, 3, 64, 64),
    ),
}
EXACT = ("ViT", "DeiT", "Beit", "Dinov2", "DINOv3ViT", "Siglip", "CLIPVision", "Blip", "Owl", "Yolos", "IJepa",
         "InternVL", "Idefics", "SmolVLM", "ViTMSN", "Data2VecVision", "VideoMAE", "Vivit", "Aimv2", "Git",
         "Kosmos2", "Janus", "Flava", "LayoutLMv3", "DPT", "DepthAnything")  # fmt: skip
REFUSED = ("Swin", "Hiera", "ViTMAE", "Segformer", "Dinat", "Levit", "Pvt", "Cvt", "DonutSwin", "GroupViT", "Mllama",
           "Perceiver", "ResNet", "ConvNext", "Sam", "Detr", "Glpn", "Poolformer", "VitDet")  # fmt: skip


def cases() -> Iterator[Case]:
    from transformers.models.auto import modeling_auto

    names: dict[str, None] = dict.fromkeys(TOWERS.split())
    for registry in REGISTRIES:
        for found in getattr(modeling_auto, f"MODEL_FOR_{registry}_MAPPING_NAMES").values():
            names.update(dict.fromkeys([found] if isinstance(found, str) else found))
    for name in names:
        if name in VIDEOS or name in SKIPPED:
            continue
        shape = SIZES.get(name, (2, 3, 32, 32))
        yield Case(name, "transformers, vision", partial(build, name, **_settings(name)), partial(floats, *shape),
                   _expected(name))  # fmt: skip
    yield Case("VJEPA2Model, without its predictor", "transformers, vision", partial(build, "VJEPA2Model"),
               partial(floats, *VIDEOS["VJEPA2Model"]), "exact", extra=lambda: {"skip_predictor": True})  # fmt: skip
    for name, shape in VIDEOS.items():
        yield Case(name, "transformers, vision", partial(build, name, **_settings(name)), partial(floats, *shape),
                   _expected(name))  # fmt: skip
    yield from _packed()
    yield from _two_towers()


def _packed() -> Iterator[Case]:
    """Towers that take patches, in one row for all pictures or with their places."""

    def patches() -> Tensor:
        return floats(32, 3 * 2 * 8 * 8)

    grid = torch.tensor([[1, 4, 4], [1, 4, 4]])
    for name in ("qwen2_vl:Qwen2VisionTransformerPretrainedModel", "Glm4vVisionModel", "Qwen3VLVisionModel"):
        yield Case(f"{name.rpartition(':')[2]}, two pictures", "transformers, vision", partial(build, name), patches,
                   "refused", extra=lambda: {"grid_thw": grid}, run=_packed_run)  # fmt: skip
    yield Case("PixtralVisionModel, one picture", "transformers, vision", partial(build, "PixtralVisionModel"),
               partial(floats, 1, 3, 32, 48))  # fmt: skip
    places = {"pixel_attention_mask": torch.ones(2, 16, dtype=torch.long), "spatial_shapes": torch.tensor([[4, 4]] * 2)}
    yield Case("Siglip2VisionModel", "transformers, vision", partial(build, "Siglip2VisionModel", num_patches=16),
               partial(floats, 2, 16, 3 * 8 * 8), "", extra=lambda: places)  # fmt: skip
    tiles = {"aspect_ratio_ids": torch.ones(2, 1, dtype=torch.long), "aspect_ratio_mask": torch.ones(2, 1, 1)}
    yield Case("MllamaVisionModel", "transformers, vision", partial(
        build, "MllamaVisionModel", max_num_tiles=1, num_global_layers=1, intermediate_layers_indices=[0, 1],
        vision_output_dim=96, supported_aspect_ratios=[[1, 1]]), partial(floats, 2, 1, 1, 3, 32, 32), "refused",
        extra=lambda: tiles)  # fmt: skip


def _packed_run(model: Any, inputs: Tensor, extra: Any) -> Any:
    return model(inputs, **extra)


def _settings(name: str) -> dict[str, Any]:
    fitting = [each for each in SETTINGS if name.startswith(each)]
    return SETTINGS[max(fitting, key=len)] if fitting else {}


def _expected(name: str) -> str:
    for expected, names in (("refused", REFUSED), ("exact", EXACT)):
        if any(name.startswith(each) for each in names):
            return expected
    return ""


def _two_towers() -> Iterator[Case]:
    """Whole models, given a picture, a text, or both."""
    for name in (
        "CLIPModel",
        "SiglipModel",
        "ChineseCLIPModel",
        "AltCLIPModel",
        "MetaClip2Model",
        "BlipModel",
        "CLIPSegModel",
        "GroupViTModel",
        "OwlViTModel",
        "FlavaModel",
        "Aimv2Model",
        "Blip2Model",
    ):
        make = partial(build, name)
        group = "transformers, image and text"
        yield Case(f"{name}, picture", group, make, partial(floats, 2, 3, 32, 32), run=_untried)
        yield Case(f"{name}, ids", group, make, text, run=_untried)
    yield Case("CLIPModel, ids and picture", group, partial(build, "CLIPModel"), text,
               extra=lambda: {"pixel_values": floats(2, 3, 32, 32).float()})  # fmt: skip
    segmenter = partial(build, "CLIPSegForImageSegmentation", extract_layers=[0, 1, 2], reduce_dim=16)
    yield Case("CLIPSegForImageSegmentation, picture", group, segmenter,
               partial(floats, 2, 3, 32, 32), extra=lambda: {"input_ids": text()})  # fmt: skip
    yield Case("ViltModel", group, partial(build, "ViltModel"), text, "refused",
               extra=lambda: {"pixel_values": floats(2, 3, 32, 32).float()})  # fmt: skip
    for name in (
        "LlavaForConditionalGeneration",
        "PaliGemmaForConditionalGeneration",
        "Idefics3ForConditionalGeneration",
    ):
        yield Case(f"{name}, ids alone", group, partial(build, name), text)


def _untried(model: Any, inputs: Any, extra: Any) -> None:
    """A whole model wants more than one input; a tower of it is what runs."""
