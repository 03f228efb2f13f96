"""Tiny language models with real tokenizers, of the kinds that people load."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from tests.builders.case import VOCABULARY, stir
from tests.builders.transformers_models import build

WORDS = [
    "<unk>", "<pad>", "<s>", "</s>", "the", "cat", "dog", "sat", "ran", "on", "a", "mat", "red", "ball", "saw", "Lily",
    ".", ",", ":", "TL", "DR", ";", "and", "was", "big",
]  # fmt: skip
SENTENCES = ["the cat sat on the mat.", "a dog saw the red ball, and ran!", "Lily was big: the cat's dog ran on."]
STORIES = Path(__file__).parents[3] / "shared" / "data" / "stories260K"
CONTEXT = "the cat sat on the mat . a dog saw Lily"
SUMMARY = " the cat sat"


def wrap(tokenizer: Tokenizer, **special: str) -> Any:
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def framed(tokenizer: Tokenizer, single: str) -> Tokenizer:
    """With special tokens added around the text, as in ``"<s> $A </s>"``."""
    special = [(token, tokenizer.token_to_id(token)) for token in single.split() if token != "$A"]
    tokenizer.post_processor = processors.TemplateProcessing(single=single, special_tokens=special)
    return tokenizer


def word_level(single: str = "<s> $A", **special: str) -> Any:
    """One token a word; blanks belong to none."""
    words = Tokenizer(models.WordLevel({word: number for number, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    return wrap(framed(words, single), unk_token="<unk>", bos_token="<s>", eos_token="</s>", **special)


def byte_level(trim: bool = False) -> Any:
    """As GPT-2 (or, trimming, RoBERTa): blanks go with the word behind them, rare characters are several bytes."""
    return wrap(_trained(trim), eos_token="<|endoftext|>")


@cache
def _trained(trim: bool) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, special_tokens=["<|endoftext|>"], show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=trim)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def llama_style() -> Any:
    """As Llama: a blank put before the text, blanks written as ▁, bytes for what the vocabulary lacks."""
    pieces = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    letters = [*"▁abcdefghijklmnopqrstuvwxyzL.,:;!TDR"]
    merges = [("▁", "t"), ("h", "e"), ("▁t", "he"), ("a", "t"), ("c", "at"), ("▁", "cat"), ("s", "at"), ("▁", "sat")]
    vocabulary = list(dict.fromkeys([*pieces, *letters, *("".join(pair) for pair in merges)]))
    tokenizer = Tokenizer(
        models.BPE(
            {piece: number for number, piece in enumerate(vocabulary)}, merges,
            unk_token="<unk>", fuse_unk=True, byte_fallback=True,
        )
    )  # fmt: skip
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    return wrap(framed(tokenizer, "<s> $A"), unk_token="<unk>", bos_token="<s>", eos_token="</s>")


TOKENIZERS = {
    "words": word_level,
    "words-bos-eos": lambda: word_level("<s> $A </s>"),
    "bytes": byte_level,
    "bytes-trimmed": lambda: byte_level(trim=True),
    "llama": llama_style,
}

_SETTINGS: dict[str, Any] = {
    "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 64,
    "vocab_size": VOCABULARY, "max_position_embeddings": 64, "pad_token_id": 0,
}  # fmt: skip
_GPT2 = {"n_embd": 32, "n_layer": 3, "n_head": 4, "n_positions": 64, "vocab_size": VOCABULARY}


def llama(**changes: Any) -> Any:
    settings = {**_SETTINGS, "num_key_value_heads": 2, **changes}
    return stir(build("Llama", "ForCausalLM", "sdpa", **settings)).eval()


def gpt2(**changes: Any) -> Any:
    return stir(build("GPT2", "LMHeadModel", "sdpa", **{**_GPT2, **changes})).eval()


def bert() -> Any:
    return stir(build("Bert", "Model", "sdpa", **_SETTINGS)).eval()


def modern_bert() -> Any:
    return stir(build("ModernBert", "Model", "sdpa", **_SETTINGS)).eval()


def bridge(model: Any, tokenizer: Any = None) -> Any:
    from transformer_lens.model_bridge.sources import build_bridge_from_module

    found = build_bridge_from_module(model, type(model).__name__, hf_config=model.config).eval()
    found.tokenizer = tokenizer
    return found


def stories() -> tuple[Any, Any]:
    """A trained Llama and its tokenizer; the test is skipped where they are not beside the repository."""
    if not STORIES.is_dir():
        pytest.skip(f"the trained model is not there: {STORIES.name}")
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM.from_pretrained(STORIES).eval(), AutoTokenizer.from_pretrained(STORIES)
