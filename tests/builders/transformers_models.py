"""transformers: vision, text and two-tower models, tiny, from their configurations."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from tests.builders.case import CHANNELS, DEPTH, HEADS, VOCABULARY, Case

SIZE, PATCH, LENGTH = 32, 8, 9
GRID = (SIZE // PATCH, SIZE // PATCH)

_COMMON: dict[str, Any] = {
    "hidden_size": CHANNELS, "num_hidden_layers": DEPTH, "num_attention_heads": HEADS,
    "intermediate_size": 2 * CHANNELS,
}  # fmt: skip
_IMAGE = {**_COMMON, "image_size": SIZE, "patch_size": PATCH}
_TEXT = {**_COMMON, "vocab_size": VOCABULARY, "max_position_embeddings": 24, "pad_token_id": 0}
_GROUPED = {**_TEXT, "num_key_value_heads": 2}


def build(family: str, head: str, attention: str, **settings: Any) -> nn.Module:
    """``transformers.<family><head>`` from ``<family>Config``; heads of towers have configurations of their own."""
    import transformers

    tower = head.removesuffix("Model") if head in {"VisionModel", "TextModel"} else ""
    config = getattr(transformers, f"{family.removesuffix('Encoder')}{tower}Config")(**settings)
    config._attn_implementation = attention
    return getattr(transformers, family + head)(config)


def _vision(
    family: str, head: str, blocks: str, prefix: int, attentions: str = "sdpa eager", **settings: Any
) -> list[Case]:
    return [
        Case(
            f"hf-{family}{head}-{attention}", partial(build, family, head, attention, **{**_IMAGE, **settings}),
            (2, 3, SIZE, SIZE), blocks, tokens=prefix + GRID[0] * GRID[1], prefix=prefix, grid=GRID,
        )
        for attention in attentions.split()
    ]  # fmt: skip


def _text(family: str, head: str, blocks: str, attentions: str = "sdpa eager", **settings: Any) -> list[Case]:
    return [
        Case(
            f"hf-{family}{head}-{attention}", partial(build, family, head, attention, **settings),
            (2, LENGTH), blocks, tokens=LENGTH,
        )
        for attention in attentions.split()
    ]  # fmt: skip


def _two_towers(family: str, vision_prefix: int, vision: str, text: str) -> list[Case]:
    """A whole two-tower model, once given images and once given token ids."""
    towers = {"vision_config": _IMAGE, "text_config": {**_TEXT, "projection_size": CHANNELS}}
    make = partial(build, family, "Model", "sdpa", **towers)

    def see(model: Any, inputs: Tensor) -> Any:
        return model.vision_model(pixel_values=inputs)

    def read(model: Any, inputs: Tensor) -> Any:
        return model.text_model(input_ids=inputs)

    return [
        Case(
            f"hf-{family}Model-image", make, (2, 3, SIZE, SIZE), vision,
            tokens=vision_prefix + GRID[0] * GRID[1], prefix=vision_prefix, grid=GRID, call=see,
        ),
        Case(f"hf-{family}Model-text", make, (2, LENGTH), text, tokens=LENGTH, call=read),
    ]  # fmt: skip


def _encoder_of(family: str, blocks: str, **settings: Any) -> Case:
    """The encoder taken out of an encoder-decoder, as the refusal of the whole model advises."""
    return Case(
        f"hf-{family}Encoder-eager", lambda: build(family, "Model", "eager", **settings).get_encoder(),
        (2, LENGTH), blocks, tokens=LENGTH,
    )  # fmt: skip


_GPT2 = {"n_embd": CHANNELS, "n_layer": DEPTH, "n_head": HEADS, "n_positions": 24, "vocab_size": VOCABULARY}
_OPT = {**_TEXT, "ffn_dim": 2 * CHANNELS, "word_embed_proj_dim": CHANNELS}
_EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2, "head_dim": 8, "sliding_window": 4}
_NEO = {
    "hidden_size": CHANNELS, "num_heads": HEADS, "num_layers": 4, "attention_types": [[["global", "local"], 2]],
    "window_size": 4, "vocab_size": VOCABULARY, "max_position_embeddings": 24,
}  # fmt: skip
_DISTILBERT = {"dim": CHANNELS, "n_heads": HEADS, "n_layers": DEPTH, "hidden_dim": 64, "vocab_size": VOCABULARY}
_DEBERTA = {**_TEXT, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "max_relative_positions": 8}
_T5 = {
    "d_model": CHANNELS, "d_kv": 8, "d_ff": 64, "num_layers": DEPTH, "num_heads": HEADS, "vocab_size": VOCABULARY,
}  # fmt: skip
_BART = {
    "d_model": CHANNELS, "encoder_layers": DEPTH, "decoder_layers": 1, "encoder_attention_heads": HEADS,
    "decoder_attention_heads": HEADS, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": VOCABULARY,
    "max_position_embeddings": 24,
}  # fmt: skip
_LATENT = {  # multi-head latent attention: values wider than queries and keys; no experts
    **_TEXT, "num_key_value_heads": HEADS, "q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 4, "v_head_dim": 12, "first_k_dense_replace": DEPTH,
}  # fmt: skip
_BLOOM = {"hidden_size": CHANNELS, "n_layer": DEPTH, "n_head": HEADS, "vocab_size": VOCABULARY}

VISION = [
    *_vision("ViT", "Model", "layers", 1),
    *_vision("ViT", "ForImageClassification", "vit.layers", 1),
    *_vision("DeiT", "Model", "layers", 2),
    *_vision("Dinov2", "Model", "encoder.layer", 1),
    *_vision("Dinov2WithRegisters", "Model", "encoder.layer", 5, num_register_tokens=4),
    *_vision("DINOv3ViT", "Model", "model.layer", 5, num_register_tokens=4),
    *_vision("CLIP", "VisionModel", "encoder.layers", 1),
    *_vision("Siglip", "VisionModel", "encoder.layers", 0),
    *_vision("Beit", "Model", "layers", 1, use_relative_position_bias=True),
    *_vision("Data2VecVision", "Model", "encoder.layer", 1),
    *_vision("BlipVision", "Model", "encoder.layers", 1, "eager"),
]
CAUSAL = [
    *_text("CLIP", "TextModel", "encoder.layers", **_TEXT),
    *_text("GPT2", "Model", "h", **_GPT2),
    *_text("GPT2", "LMHeadModel", "transformer.h", **_GPT2),
    *_text("GPTNeoX", "ForCausalLM", "gpt_neox.layers", **_TEXT),
    *_text("OPT", "ForCausalLM", "model.decoder.layers", **_OPT),
    *_text("Llama", "Model", "layers", **_GROUPED),
    *_text("Llama", "ForCausalLM", "model.layers", **_GROUPED),
    *_text("Mistral", "ForCausalLM", "model.layers", **_GROUPED, sliding_window=4),
    *_text("Qwen3", "ForCausalLM", "model.layers", **_GROUPED, head_dim=8),
    *_text("Gemma2", "ForCausalLM", "model.layers", "eager", **_GROUPED, head_dim=8, sliding_window=4),
    *_text("Mixtral", "ForCausalLM", "model.layers", **_GROUPED, num_local_experts=4),
    *_text("DeepseekV3", "ForCausalLM", "model.layers", **_LATENT),
    *_text("GPTBigCode", "ForCausalLM", "transformer.h", **_GPT2),
    *_text("GptOss", "ForCausalLM", "model.layers", "eager", **_GROUPED, **_EXPERTS),
    *_text("Bloom", "ForCausalLM", "transformer.h", "eager", **_BLOOM),
    *_text("Falcon", "ForCausalLM", "transformer.h", "eager", **_TEXT),
    replace(*_text("GPTNeo", "ForCausalLM", "transformer.h", "eager", **_NEO), depth=4),
]
BIDIRECTIONAL = [
    *_text("Bert", "Model", "encoder.layer", **_TEXT),
    *_text("Bert", "ForMaskedLM", "bert.encoder.layer", **_TEXT),
    *_text("Roberta", "Model", "encoder.layer", **_TEXT),
    *_text("ModernBert", "Model", "layers", **_TEXT, local_attention=4),
    *_text("DistilBert", "Model", "transformer.layer", **_DISTILBERT),
    *_text("DebertaV2", "Model", "encoder.layer", "eager", **_DEBERTA),
    *_text("T5Encoder", "Model", "encoder.block", "eager", **_T5),
    _encoder_of("T5", "block", **_T5),
    _encoder_of("Bart", "layers", **_BART),
]
TEXT = [*CAUSAL, *BIDIRECTIONAL]
TWO_TOWERS = [
    *_two_towers("CLIP", 1, "vision_model.encoder.layers", "text_model.encoder.layers"),
    *_two_towers("Siglip", 0, "vision_model.encoder.layers", "text_model.encoder.layers"),
]
CASES = [*VISION, *TEXT, *TWO_TOWERS]
