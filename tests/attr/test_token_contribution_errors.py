"""What cannot be explained is refused before the model runs on the text, in a message that helps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from tokenizers import normalizers

from captum_ultra import TokenContribution, UnsupportedModelError
from tests.attr.text_models import CONTEXT, SUMMARY, bridge, byte_level, gpt2, llama, modern_bert, word_level
from tests.builders import Case, only_families
from tests.builders.transformers_models import _T5, BIDIRECTIONAL, build


def attribute(*texts: Any, model: Any = None, tokenizer: Any = None, **options: Any) -> Any:
    """Explain, and fail if a run of the model saw more tokens than the check of its causality needs."""
    model = model or llama()
    longest: list[int] = []
    model.get_input_embeddings().register_forward_hook(lambda _, args, out: longest.append(out.shape[1]))
    try:
        return TokenContribution(model, tokenizer or word_level()).attribute(*texts, **options)
    finally:
        assert max(longest, default=0) <= 4, "the model ran on the text"


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        (("", SUMMARY), {}, r"context is empty: there is nothing to explain"),
        ((" \n", SUMMARY), {}, r"context is blank"),
        ((CONTEXT, ""), {}, r"summary is empty"),
        ((CONTEXT, "\t "), {}, r"summary is blank"),
        (([CONTEXT, ""], [SUMMARY, SUMMARY]), {}, r"context is empty"),
        (([CONTEXT], [SUMMARY, SUMMARY]), {}, r"1 contexts and 2 summaries"),
        (([], []), {}, r"0 contexts and 0 summaries"),
        ((CONTEXT + "\ud800", SUMMARY), {}, r"surrogate pair at character 39"),
        ((CONTEXT, SUMMARY), {"score": "beauty"}, r"score='beauty' is unknown; possible: 'sum', 'energy'"),
        ((CONTEXT, SUMMARY), {"reduce": "median"}, r"reduce='median' is unknown; possible: 'mean', 'sum', 'max'"),
        ((CONTEXT, SUMMARY), {"position": "next"}, r"position='next' is unknown; possible: 'token', 'prediction'"),
        ((CONTEXT, SUMMARY), {"sink": "drop"}, r"sink='drop' is unknown; possible: 'keep', 'separate'"),
        ((CONTEXT, SUMMARY), {"self_token": "one"}, r"self_token='one' is unknown; possible: 'max'"),
        ((CONTEXT, SUMMARY), {"layer": 4}, r"layer=4 does not exist: with 3 blocks"),
        ((CONTEXT, SUMMARY), {"layer": [1, -5]}, r"layer=-5 does not exist"),
        ((CONTEXT, SUMMARY), {"layer": "model.norm"}, r"layer='model.norm' is not a block"),
        ((CONTEXT, SUMMARY), {"layer": []}, r"layer: an empty list"),
        ((CONTEXT, SUMMARY), {"internal_batch_size": 0}, r"internal_batch_size must be at least 1"),
        (("c", "at sat"), {"separator": ""}, r"no token belongs to the context"),
    ],
)
def test_arguments_that_do_not_fit(texts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        attribute(*texts, **options)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ((1, SUMMARY), {}, r"context must be a string \(or a list of strings.*\), got int"),
        ((CONTEXT, b"the"), {}, r"summary must be a string.*got bytes"),
        (([CONTEXT, None], [SUMMARY, SUMMARY]), {}, r"context must be a string.*got NoneType"),
        (([CONTEXT], SUMMARY), {}, r"both be strings, or both lists"),
        ((CONTEXT, SUMMARY), {"separator": None}, r"separator must be a string, got NoneType"),
        ((CONTEXT, SUMMARY), {"score": 3}, r"score must be a name, a tensor or a callable, got int"),
        ((CONTEXT, SUMMARY), {"layer": 1.5}, r"layer must be a number, a block or a block's name, got 1.5"),
    ],
)
def test_arguments_of_the_wrong_kind(texts: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        attribute(*texts, **options)


@pytest.mark.parametrize("batch", [False, True])
def test_a_tokenizer_of_another_model(batch: bool) -> None:
    texts = (["cat", "the ☃"], ["sat", "sat"]) if batch else ("the ☃", "sat")
    with pytest.raises(ValueError, match=r"do not match: the token '.*' has the id \d+, .* LlamaForCausalLM has 50"):
        attribute(*texts, tokenizer=byte_level())


def test_unused_ids_beyond_the_vocabulary_do_no_harm() -> None:
    """A pad token added to the tokenizer alone is a common habit."""
    tokenizer = word_level()
    tokenizer.add_special_tokens({"pad_token": "[PAD]", "additional_special_tokens": [f"<{i}>" for i in range(40)]})
    assert len(tokenizer) > 50
    method = TokenContribution(llama(), tokenizer)
    tokenizer.pad_token = "<39>"
    assert tokenizer.pad_token_id >= 50
    batch: Any = method.attribute([CONTEXT, "the cat"], [SUMMARY] * 2)
    alone: Any = method.attribute("the cat", SUMMARY)
    torch.testing.assert_close(batch[1].matrix, alone.matrix)


def test_texts_longer_than_a_table_of_positions() -> None:
    with pytest.raises(ValueError, match=r"the text is 78 tokens long, and GPT2LMHeadModel has positions for 64"):
        attribute("the " * 70, SUMMARY, model=gpt2())
    with pytest.raises(ValueError, match=r"document 1: the text is 78 tokens long"):
        attribute(["the", "the " * 70], [SUMMARY] * 2, model=gpt2())
    with pytest.raises(ValueError, match=r"has positions for 12"):
        TokenContribution(bridge(gpt2(n_positions=12), word_level()), word_level()).attribute(CONTEXT, SUMMARY)


def test_rotary_positions_have_no_end() -> None:
    for model in (llama(max_position_embeddings=12), bridge(llama(max_position_embeddings=12), word_level())):
        found: Any = TokenContribution(model, word_level()).attribute("the " * 70, SUMMARY)
        assert found.matrix.shape[1] == 70


def test_positions_of_other_families() -> None:
    roberta = build("Roberta", "Model", "sdpa", hidden_size=32, num_hidden_layers=1, num_attention_heads=4,
                    vocab_size=50, max_position_embeddings=12, pad_token_id=1)  # fmt: skip
    fits = " ".join(["the"] * 9)
    TokenContribution(roberta, word_level()).attribute_spans(fits, 1, score=torch.linspace(-1, 1, 32))
    with pytest.raises(ValueError, match=r"the text is 11 tokens long, and RobertaModel has positions for 10"):
        TokenContribution(roberta, word_level()).attribute_spans(fits + " cat", 1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_models_that_look_ahead(dtype: torch.dtype) -> None:
    method = TokenContribution(modern_bert().to(dtype), word_level())
    for _ in range(2):
        with pytest.raises(UnsupportedModelError, match=r"has no causal mask.*attribute_spans"):
            method.attribute(CONTEXT, SUMMARY)


@pytest.mark.parametrize("case", only_families(BIDIRECTIONAL), ids=lambda case: case.name)
def test_every_family_that_looks_ahead(case: Case) -> None:
    with pytest.raises(UnsupportedModelError, match=r"has no causal mask"):
        TokenContribution(case.model(), word_level()).attribute("the cat", " sat")


def test_a_bridge_that_looks_ahead() -> None:
    model = build("Bert", "ForMaskedLM", "eager", hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
                  intermediate_size=64, vocab_size=50, max_position_embeddings=24)  # fmt: skip
    with pytest.raises(UnsupportedModelError, match=r"has no causal mask"):
        TokenContribution(bridge(model), word_level()).attribute(CONTEXT, SUMMARY)


def test_an_encoder_decoder() -> None:
    with pytest.raises(UnsupportedModelError, match=r"encoder-decoder"):
        TokenContribution(build("T5", "Model", "eager", **_T5), word_level()).attribute(CONTEXT, SUMMARY)


def test_tokenizers_that_cannot_be_used() -> None:
    from transformers import PreTrainedTokenizer

    class Slow(PreTrainedTokenizer):
        vocab_size = 1

        def get_vocab(self) -> dict[str, int]:
            return {"a": 0}

    with pytest.raises(ValueError, match=r"Slow is a slow tokenizer.*AutoTokenizer.from_pretrained"):
        TokenContribution(llama(), Slow())
    with pytest.raises(TypeError, match=r"must be a fast tokenizer of transformers, got method_descriptor"):
        TokenContribution(llama(), str.split)
    with pytest.raises(ValueError, match=r"LlamaForCausalLM carries no tokenizer; give"):
        TokenContribution(llama())
    with pytest.raises(ValueError, match=r"TransformerBridge carries no tokenizer"):
        TokenContribution(bridge(llama()))
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module, got str"):
        TokenContribution("gpt2", word_level())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("", (0, 1)), ValueError, r"text is empty"),
        ((CONTEXT, (3, 4)), ValueError, r"targets: the span \(3, 4\) \(' '\) holds no token"),
        ((CONTEXT, (4, 4)), ValueError, r"targets: the span \(4, 4\) does not exist"),
        ((CONTEXT, (0, 99)), ValueError, r"targets: the span \(0, 99\) does not exist; .* 39, the length of the text"),
        ((CONTEXT, 12), ValueError, r"targets: token 12 does not exist; the text has 12 tokens"),
        ((CONTEXT, -13), ValueError, r"targets: token -13 does not exist"),
        ((CONTEXT, []), ValueError, r"targets: at least one token or span"),
        ((CONTEXT, "cat"), TypeError, r"targets: 'cat' is neither a token's index nor a tuple"),
        ((CONTEXT, (0, 1, 2)), TypeError, r"targets: \(0, 1, 2\) is neither"),
        ((CONTEXT, True), TypeError, r"targets: True is neither"),
        ((CONTEXT, 3, (3, 4)), ValueError, r"sources: the span \(3, 4\) \(' '\) holds no token"),
        (([CONTEXT], (0, 3)), ValueError, r"targets: a list with one entry for each of the 1 texts"),
        (([CONTEXT], [3], [1, 2]), ValueError, r"sources: a list with one entry for each of the 1 texts .* got 2"),
        (([], []), ValueError, r"each of the 0 texts"),
    ],
)
def test_spans_that_do_not_exist(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        TokenContribution(llama(), word_level()).attribute_spans(*arguments)


def test_options_of_spans_that_do_not_fit() -> None:
    method = TokenContribution(llama(), word_level())
    with pytest.raises(ValueError, match=r"no latent predicts the first token"):
        method.attribute_spans(CONTEXT, [0, 3], position="prediction")
    with pytest.raises(ValueError, match=r'sink="separate" leaves no source'):
        method.attribute_spans(CONTEXT, 3, 0, sink="separate")


def test_texts_that_a_tokenizer_makes_nothing_of() -> None:
    tokenizer = word_level()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("\u200b", "")
    method = TokenContribution(llama(), tokenizer)
    with pytest.raises(ValueError, match=r"no token belongs to the summary"):
        method.attribute("the cat", "\u200b")
    with pytest.raises(ValueError, match=r"sources: the tokenizer makes no token of the text"):
        method.attribute_spans("\u200b", 0)


def test_words_that_the_tokenizer_does_not_know_are_named() -> None:
    from captum_ultra.models.llama import facts_llama, facts_tokenizer

    explain = TokenContribution(facts_llama(), facts_tokenizer())
    with pytest.warns(UserWarning, match=r"2 of 8 tokens are unknown to the tokenizer \('quarks', 'Zoe'\).*'<unk>'"):
        explain.attribute("Mara likes quarks.", " Zoe.")
