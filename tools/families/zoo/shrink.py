"""Configurations of transformers made small by the names of their fields, whatever the family."""

from __future__ import annotations

from importlib import import_module
from typing import Any

DEPTH, WIDTH, HEADS = 3, 32, 4

SMALL: dict[str, Any] = {
    **dict.fromkeys(
        ("hidden_size", "d_model", "n_embd", "dim", "emb_dim", "embed_dim", "word_embed_proj_dim", "embedding_size",
         "projection_size", "output_proj_dim", "encoder_hidden_size", "cross_attention_hidden_size", "out_hidden_size",
         "text_embed_dim", "projection_dim", "output_dim", "decoder_hidden_size", "lru_width", "true_hidden_size",
         "attention_hidden_size", "backbone_hidden_size", "output_hidden_size", "conv_dim_bias"),
        WIDTH,
    ),
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers", "depth", "layers"), DEPTH
    ),
    "decoder_layers": 1, "num_decoder_layers": 1, "num_encoder_layers": DEPTH, "decoder_num_hidden_layers": 1,
    **dict.fromkeys(
        ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads", "decoder_attention_heads",
         "attention_heads", "num_key_value_heads", "swa_num_attention_heads", "swa_num_key_value_heads",
         "decoder_num_attention_heads", "num_kv_heads", "encoder_num_attention_heads"),
        HEADS,
    ),
    **dict.fromkeys(("head_dim", "d_kv", "qk_nope_head_dim", "v_head_dim", "swa_head_dim", "attention_head_dim",
                     "global_head_dim", "swa_v_head_dim", "dim_head"), 8),
    "qk_rope_head_dim": 4, "rotary_dim": 4, "q_lora_rank": 8, "kv_lora_rank": 8, "o_lora_rank": 8,
    **dict.fromkeys(
        ("intermediate_size", "ffn_dim", "encoder_ffn_dim", "decoder_ffn_dim", "d_ff", "n_inner", "mlp_dim",
         "hidden_dim", "ffn_hidden_size", "dff", "decoder_intermediate_size", "linear_units", "ffn_intermediate_size"),
        48,
    ),
    **dict.fromkeys(
        ("moe_intermediate_size", "shared_expert_intermediate_size", "expert_ffn_hidden_size", "intermediate_size_mlp",
         "moe_shared_expert_intermediate_size", "shared_intermediate_size"), 16,
    ),
    **dict.fromkeys(
        ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts", "n_experts"), 4
    ),
    **dict.fromkeys(
        ("num_experts_per_tok", "num_experts_per_token", "moe_k", "top_k_experts", "moe_topk", "moe_top_k"), 2
    ),
    "n_group": 1, "topk_group": 1, "n_shared_experts": 1,
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input", "input_vocab_size", "entity_vocab_size"), 64),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "max_source_positions",
         "max_encoder_position_embeddings", "max_decoder_position_embeddings", "max_target_positions"), 64,
    ),
    "hidden_size_per_layer_input": 8, "num_kv_shared_layers": 0, "first_k_dense_replace": 1, "altup_active_idx": 0,
    **dict.fromkeys(("sliding_window", "local_attention", "attention_chunk_size", "sliding_window_size"), 4),
    **dict.fromkeys(("pad_token_id",), 0),
    **dict.fromkeys(("bos_token_id", "cls_token_id", "decoder_start_token_id"), 1),
    **dict.fromkeys(("eos_token_id", "sep_token_id"), 2),
    "mask_token_id": 3, "image_size": 32, "patch_size": 8, "query_pre_attn_scalar": 8, "num_codevectors_per_group": 4,
    "codevector_dim": 8, "proj_codevector_dim": 8, "num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2,
    "mamba_d_state": 4, "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_n_groups": 1, "state_size": 4,
    "index_n_heads": 2, "index_head_dim": 8, "index_topk": 16, "attn_layer_period": 2, "attn_layer_offset": 1,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4,
    "num_mel_bins": 16, "num_register_tokens": 2, "max_2d_position_embeddings": 64, "mlp_ratio": 2,
}  # fmt: skip
UNSET = ("head_dim", "num_key_value_heads", "vocab_size")
"""Made small where a family leaves them open."""
PER_LAYER = (
    "layer_types", "num_attention_heads_per_layer", "activation_sparsity_pattern", "mlp_layer_types", "no_rope_layers",
    "layers_block_type", "indexer_types", "layer_rope_theta", "hybrid_override_pattern", "block_types_per_layer",
    "moe_layer_freq", "attention_layers", "swa_layer_types",
)  # fmt: skip


def small(family: str, **settings: Any) -> Any:
    """A small configuration of ``transformers.<family>Config``; ``settings`` reach into nested ones by dots."""
    import transformers

    kind = getattr(transformers, f"{family}Config")
    values = kind().to_dict()
    flat = {name: value for name, value in settings.items() if not isinstance(value, dict)}
    values = {**shrunk(values), **flat}
    for name, nested in settings.items():
        if isinstance(nested, dict):
            values[name] = {**(values.get(name) or {}), **nested} if name.endswith("config") else nested
    values.pop("model_type", None)
    return kind(**values)


_DERIVED = (
    "out_features", "out_indices", "stage_names", "per_layer_config", "transformers_version",
    "architectures", "_name_or_path", "dtype", "torch_dtype", "_attn_implementation_internal",
)  # fmt: skip


def shrunk(values: dict[str, Any]) -> dict[str, Any]:
    """A configuration's fields, small: numbers by their names, lists of a value a layer cut to the depth."""
    found = {}
    for name, value in values.items():
        if name in _DERIVED:
            continue
        if isinstance(value, dict) and (name.endswith("config") or "model_type" in value):
            value = shrunk(value)
        elif name in ("image_size", "patch_size") and isinstance(value, list | tuple):
            value = [SMALL[name]] * len(value)
        elif name == "intermediate_size" and isinstance(value, list):
            value = SMALL[name]
        elif name in SMALL and isinstance(value, int | float) and not isinstance(value, bool):
            value = type(value)(SMALL[name])
        elif name in UNSET and value is None:
            value = SMALL[name]
        elif name in PER_LAYER and isinstance(value, list):
            value = value[:DEPTH] if len(set(map(str, value[:DEPTH]))) > 1 else value[-DEPTH:]
        found[name] = value
    return found


def _class(name: str) -> Any:
    """A class of transformers, "module:Name" for one that is not public."""
    import transformers

    module, _, plain = name.rpartition(":")
    return getattr(import_module(f"transformers.models.{module}.modeling_{module}") if module else transformers, plain)


def build(name: str, family: str | None = None, attention: str | None = None, **settings: Any) -> Any:
    """``transformers.<name>`` with a small configuration of ``<family>Config``."""
    kind = _class(name)
    family = family or kind.config_class.__name__.removesuffix("Config")
    config = small(family, **settings)
    if attention is not None:
        config._attn_implementation = attention
    return kind(config)
