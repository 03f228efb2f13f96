"""Text models of transformers: every causal and masked language model and encoder that its registry names."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from tools.families.case import Case, text
from tools.families.zoo.shrink import build

REGISTRIES = ("CAUSAL_LM", "MASKED_LM", "TEXT_ENCODING")
_LATENT = {"head_dim": 4, "num_experts_per_tok": 2, "n_routed_experts": 4, "n_group": 1, "topk_group": 1}
SETTINGS: dict[str, dict[str, Any]] = {
    "AXK1": _LATENT,
    "AXK2": _LATENT,
    "DeepseekV2": _LATENT,
    "DeepseekV3": _LATENT,
    "DeepseekV32": _LATENT,
    "FalconH1": {"mamba_d_ssm": 64},
    "Lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "Mamba2": {"num_heads": 8},
    "Reformer": {"is_decoder": True, "axial_pos_embds": False},
    "MobileBert": {"intra_bottleneck_size": 32},
    "NeoMME": {"head_dim": 16},
    "Dots1": {"num_experts_per_tok": 2, "n_routed_experts": 4, "n_shared_experts": 1},
    "Youtu": {"head_dim": 4},
    "LongcatFlash": {"qk_head_dim": 12, "head_dim": 4},
    "XLNet": {"d_head": 8, "d_inner": 48},
    "Esm": {"pad_token_id": 0, "mask_token_id": 3},
    "LlamaForSequenceClassification": {"pad_token_id": 0},
    "ReformerForMaskedLM": {"is_decoder": False, "axial_pos_embds": False},
    "Perceiver": {
        "num_latents": 16,
        "d_latents": 32,
        "num_self_attends_per_block": 2,
        "num_self_attention_heads": 4,
        "num_cross_attention_heads": 4,
        "qk_channels": 32,
        "v_channels": 32,
    },
    "Xmod": {"default_language": "en_XX"},
    "T5GemmaEncoder": {"is_encoder_decoder": False},
    "Gemma3n": {"intermediate_size": 48},
    "Gemma4Assistant": {"hidden_size_per_layer_input": 0},
    "Gemma4UnifiedAssistant": {"hidden_size_per_layer_input": 0},
    "Bamba": {"attn_layer_indices": [1]},
    "GraniteMoeHybrid": {"layer_types": ["linear_attention", "full_attention", "linear_attention"]},
    "Zaya": {"num_experts_per_tok": 1},
    "LEDModel": {"attention_window": 4, "max_encoder_position_embeddings": 64},
    "Canine": {"num_hash_functions": 4, "num_hash_buckets": 64, "downsampling_rate": 2, "local_transformer_stride": 4},
}
"""What a family needs beside the common small sizes."""

ENCODERS = (
    "T5Model", "MT5Model", "UMT5Model", "BartModel", "MBartModel", "M2M100Model", "PegasusModel", "MarianModel",
    "BlenderbotModel", "BlenderbotSmallModel", "PLBartModel", "LEDModel", "LongT5Model", "NllbMoeModel",
    "PegasusXModel", "ProphetNetModel", "FSMTModel", "MvpModel", "SwitchTransformersModel", "BigBirdPegasusModel",
    "T5GemmaModel",
)  # fmt: skip
OTHERS = (
    "CanineModel", "ImageGPTModel", "XLNetModel", "MarkupLMModel", "DPRQuestionEncoder",
    "BertForSequenceClassification", "LlamaForSequenceClassification", "SplinterModel", "VisualBertModel",
    "OpenAIPrivacyFilterModel",
)  # fmt: skip
EXACT = (
    "Phi", "StableLm", "Cohere", "Olmo", "Qwen", "Mixtral", "GPT", "CodeGen", "Mpt", "Gemma", "Llama", "DeepseekV",
    "Glm", "MiniMaxM2", "Granite", "Starcoder2", "Persimmon", "Nemotron", "Exaone", "Ernie", "SmolLM3", "BitNet",
    "XGLM", "BioGpt", "JetMoe", "CTRL", "XLMRoberta", "Electra", "RemBert", "RoFormer", "MPNet", "Esm", "Deberta",
    "MobileBert", "ModernBert", "NomicBert", "Luke", "LayoutLM", "Bert", "Roberta", "OPT", "Bloom", "Falcon", "Mistral",
    "DistilBert", "Camembert", "Helium", "Apertus", "Arcee", "SeedOss", "NanoChat", "Jais2", "OpenAIGPT",
)  # fmt: skip
"""Families that can be followed; REFUSED goes before."""
REFUSED = (
    "FalconMamba", "GraniteMoeHybrid", "Qwen3Next", "Qwen3_5", "Qwen4", "Gemma3n", "DeepseekV4", "OlmoHybrid",
    "NemotronH", "Perceiver", "Albert", "Longformer", "Funnel", "XLNet", "XLM", "Flaubert", "FalconH1", "ConvBert",
    "Nystromformer", "FNet", "Mamba", "Jamba", "Bamba", "Rwkv", "Reformer", "DiffLlama", "Yoso", "Mra", "Zamba",
    "RecurrentGemma", "Zaya", "Inkling",
)  # fmt: skip


def cases() -> Iterator[Case]:
    yield from _registered()
    for name in ENCODERS:
        make = partial(_encoder, name, **_settings(name))
        yield Case(f"{name}.get_encoder()", "transformers, encoders of encoder-decoders", make, text, padded=True)
    full = partial(build, "BigBirdModel", attention_type="original_full")
    yield Case("BigBirdModel, full attention", _GROUP, full, text, "exact", padded=True)
    for name in ("T5Model", "BartModel", "MarianMTModel", "T5ForConditionalGeneration"):
        yield Case(f"{name}, whole", "transformers, encoders of encoder-decoders", partial(build, name), text,
                   "refused", run=_untried)  # fmt: skip
    yield from _adapted()


_GROUP = "transformers, text"


def _registered() -> Iterator[Case]:
    from transformers.models.auto import modeling_auto

    names: dict[str, None] = {}
    for registry in REGISTRIES:
        for found in getattr(modeling_auto, f"MODEL_FOR_{registry}_MAPPING_NAMES").values():
            names.update(dict.fromkeys([found] if isinstance(found, str) else found))
    for name in (*names, *OTHERS):
        refused = any(name.startswith(each) and not name.startswith("XLMRoberta") for each in REFUSED)
        exact = any(name.startswith(each) for each in EXACT)
        for attention in (None, "eager"):
            yield Case(
                name if attention is None else f"{name}, {attention}", _GROUP,
                partial(build, name, attention=attention, **_settings(name)), text,
                "refused" if refused else "exact" if exact else "", padded=True,
            )  # fmt: skip


def _untried(model: Any, inputs: Any, extra: Any) -> None:
    """A whole encoder-decoder wants two texts."""


def _settings(name: str) -> dict[str, Any]:
    fitting = [each for each in SETTINGS if name.startswith(each)]
    return SETTINGS[max(fitting, key=len)] if fitting else {}


def _encoder(name: str, **settings: Any) -> Any:
    return build(name, **settings).get_encoder()


def _adapted() -> Iterator[Case]:
    """Models with adapters of peft, with and without a task; prompt tuning adds tokens."""
    tasks: dict[str, Any] = {"LoRA": None, "LoRA with a task": "CAUSAL_LM", "prompt tuning": "CAUSAL_LM"}
    for kind, task in tasks.items():
        yield Case(f"LlamaForCausalLM in peft, {kind}", "peft", partial(_in_peft, kind, task), text,
                   "" if kind == "prompt tuning" else "exact", padded=True)  # fmt: skip


def _in_peft(kind: str, task: str | None) -> Any:
    import peft

    model = build("LlamaForCausalLM")
    if kind == "prompt tuning":
        return peft.get_peft_model(model, peft.PromptTuningConfig(task_type=task, num_virtual_tokens=3))
    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"], task_type=task))
