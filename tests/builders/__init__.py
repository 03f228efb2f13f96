"""Tiny models of real library classes with random weights.

``CASES`` lists all of them; ``FAMILIES`` every implementation of blocks once, for what may differ between them;
``EXAMPLES`` one of every way in which models are built and run, for what does not depend on the blocks.
"""

from tests.builders import open_clip_models, timm_models, torch_models, transformers_models
from tests.builders.case import DEPTH, Case, stir

CASES: list[Case] = [
    *timm_models.CASES,
    *transformers_models.CASES,
    *open_clip_models.CASES,
    *torch_models.CASES,
]

__all__ = ["CASES", "DEPTH", "EXAMPLES", "FAMILIES", "Case", "case_named", "only_families", "stir"]

# The eager attention of transformers is nearly one function: a vision model, an encoder and two decoders stand for all.
_EAGER_AS_WELL = {"hf-ViTModel-eager", "hf-BertModel-eager", "hf-LlamaForCausalLM-eager", "hf-GPT2LMHeadModel-eager"}
_BLOCKS_OF_ANOTHER_CASE = {
    "timm-vit-nonsquare", "timm-vit-dynamic", "hf-ViTForImageClassification-sdpa", "hf-GPT2Model-sdpa",
    "hf-LlamaModel-sdpa", "hf-BertForMaskedLM-sdpa", "hf-T5Encoder-eager", "open_clip-vision-tower",
    "open_clip-clip-text", "open_clip-timm-tower", "open_clip-timm-clip-text",
}  # fmt: skip


def case_named(name: str) -> Case:
    """The case of this name."""
    return next(case for case in CASES if case.name == name)


def only_families(cases: list[Case]) -> list[Case]:
    """Those of some cases whose blocks are no other case's."""
    fused = {case.name.removesuffix("-sdpa") for case in CASES if case.name.endswith("-sdpa")}
    return [
        case
        for case in cases
        if case.name not in _BLOCKS_OF_ANOTHER_CASE
        and (case.name.removesuffix("-eager") not in fused or case.name in _EAGER_AS_WELL)
    ]


FAMILIES = only_families(CASES)
EXAMPLES = [
    case_named(name)
    for name in (
        "timm-vit", "hf-ViTModel-sdpa", "hf-BertModel-eager", "hf-LlamaForCausalLM-sdpa", "hf-BloomForCausalLM-eager",
        "hf-GptOssForCausalLM-eager", "hf-T5EncoderModel-eager", "hf-CLIPModel-image", "hf-CLIPModel-text",
        "open_clip-clip-image", "open_clip-timm-clip-image", "torchvision-vit", "torch-encoder-postnorm",
        "torch-encoder-prenorm-sequence-first", "plain-fused", "plain-softmax",
    )
]  # fmt: skip
