"""Token contributions against stored attention maps, one backward pass for each summary token."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from captum_ultra import Contribution, SpanContribution, TokenContribution
from captum_ultra.attr.methods import find_method
from tests.attr.test_models_as_found import assert_same, state_of, state_of_torch, unusual
from tests.attr.text_models import (
    CONTEXT,
    SUMMARY,
    bert,
    bridge,
    byte_level,
    gpt2,
    llama,
    modern_bert,
    stories,
    word_level,
)
from tests.builders import Case, only_families
from tests.builders.transformers_models import CAUSAL
from tests.reference.recording import record
from tests.reference.ultra import explain

BLOCKS = {"llama": "model.layers", "gpt2": "transformer.h", "bert": "encoder.layer", "modern_bert": "layers"}
MODELS = {"llama": llama, "gpt2": gpt2, "bert": bert, "modern_bert": modern_bert}
DOCUMENTS = (
    ["the cat sat on the mat .", "a dog saw Lily and a big red ball on the mat", "Lily ran"],
    [" the cat sat", " Lily", " was Lily big"],
)


# As the paper has it: the sum of the latents at the summary tokens. These are no defaults.
PAPER: dict[str, Any] = {"score": "sum", "position": "token"}


def ultra(model: Any, tokenizer: Any = None) -> TokenContribution:
    return TokenContribution(model, tokenizer, method="ultra")


def loop(name: str, model: Any, found: SpanContribution, score: Any) -> Tensor:
    """The matrix [T, S] with one backward pass over stored maps for each latent explained."""
    ids, model = found.input_ids[None], model.double()
    recording = record(lambda: model(input_ids=ids), model, list(model.get_submodule(BLOCKS[name])))
    sources = found.source_positions.tolist()
    rows = []
    for latent in found.latent_positions.tolist():
        row = explain(recording, latent, found.layer, score, self_token="keep")[0, sources]
        if latent in sources and found.self_token != "keep":
            place = sources.index(latent)
            others = torch.cat([row[:place], row[place + 1 :]])
            row[place] = others.max() if found.self_token == "max" else 0
        rows.append(row)
    return torch.stack(rows)


def assert_close(found: Tensor, expected: Tensor, rtol: float = 1e-5) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=0, atol=rtol * expected.max().item())


@pytest.mark.parametrize("position", ["token", "prediction"])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_the_matrix_is_that_of_a_loop_over_stored_maps(name: str, position: str) -> None:
    model = MODELS[name]().double()
    for score in ("sum", "energy"):
        layers: Any = ultra(model, word_level()).attribute(
            CONTEXT, SUMMARY, layer=[1, -1], score=score, position=position
        )
        for found, layer in zip(layers, (1, 3), strict=True):
            expected = loop(name, model, found, score)
            assert found.matrix.dtype == torch.float64
            assert_close(found.matrix, expected, rtol=1e-9)
            assert_close(found.scores, expected.mean(dim=0), rtol=1e-9)
            assert found.layer == layer and found.score == score


METHODS = [("ultra", {}), ("rollout", {}), ("conservative", {"reading": "absolute"}), ("residual", {"gamma": 1.0})]


@pytest.mark.parametrize(("name", "choices"), METHODS)
def test_the_rows_are_those_of_the_method(name: str, choices: dict[str, Any]) -> None:
    model = gpt2().double()
    method = TokenContribution(model, word_level(), method=name, **choices)
    found: Any = method.attribute(CONTEXT, SUMMARY, layer=2, score="sum")
    rows = find_method(name)(model).attribute(
        found.input_ids[None], token=found.latent_positions.tolist(), layer=2, score="sum", **choices
    )
    assert_close(found.matrix, rows[0][:, found.source_positions], rtol=1e-9)
    assert found.method == name
    with pytest.raises(TypeError, match="no argument 'depth'"):
        TokenContribution(model, word_level(), method=name, depth=2)
    with pytest.raises(ValueError, match="method 'saliency' is unknown; known are ultra, conservative, residual"):
        TokenContribution(model, word_level(), method="saliency")


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_bridge_gives_what_its_model_gives(name: str) -> None:
    tokenizer = word_level()
    expected: Any = ultra(MODELS[name](), tokenizer).attribute(CONTEXT, SUMMARY)
    lens = bridge(MODELS[name](), tokenizer)
    found: Any = ultra(lens).attribute(CONTEXT, SUMMARY)
    assert_close(found.matrix, expected.matrix)
    assert torch.equal(found.input_ids, expected.input_ids)
    several: Any = ultra(lens).attribute(*DOCUMENTS)
    for contribution, context, summary in zip(several, *DOCUMENTS, strict=True):
        alone: Any = ultra(lens).attribute(context, summary)
        assert_close(contribution.matrix, alone.matrix)


def test_the_parts_are_in_their_places() -> None:
    found: Any = ultra(llama(), word_level()).attribute(CONTEXT, SUMMARY, separator=" TL;DR: ", position="token")
    assert isinstance(found, Contribution)
    assert (found.context, found.separator, found.summary) == (CONTEXT, " TL;DR: ", SUMMARY)
    assert found.context_tokens == tuple(CONTEXT.split()) and found.summary_tokens == tuple(SUMMARY.split())
    assert found.source_positions.tolist() == list(range(1, 12))
    assert found.target_positions.tolist() == [16, 17, 18]
    assert found.input_ids.shape == (19,) and found.matrix.shape == (3, 11) and found.scores.shape == (11,)
    assert found.context_offsets[1] == (4, 7) and found.summary_offsets == ((1, 4), (5, 8), (9, 12))
    assert torch.equal(found.latent_positions, found.target_positions)


@pytest.mark.parametrize(("reduce", "expected"), [("mean", Tensor.mean), ("sum", Tensor.sum), ("max", Tensor.amax)])
def test_rows_are_reduced_as_asked(reduce: str, expected: Any) -> None:
    found: Any = ultra(gpt2(), word_level()).attribute(CONTEXT, SUMMARY, reduce=reduce)
    torch.testing.assert_close(found.scores, expected(found.matrix, 0))
    assert found.reduce == reduce


@pytest.mark.parametrize(("side", "pad"), [("left", None), ("right", "<pad>")])
@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_a_batch_equals_the_loop(name: str, pad: str | None, side: str) -> None:
    """Whichever side the tokenizer pads on, and whether it can pad at all."""
    special = {} if pad is None else {"pad_token": pad}
    method = ultra(MODELS[name]().double(), word_level(padding_side=side, **special))
    batch: Any = method.attribute(*DOCUMENTS, layer=[2, -1])
    assert len(batch) == 3 and all(len(layers) == 2 for layers in batch)
    for layers, context, summary in zip(batch, *DOCUMENTS, strict=True):
        alone: Any = method.attribute(context, summary, layer=[2, -1])
        for found, expected in zip(layers, alone, strict=True):
            assert_close(found.matrix, expected.matrix, rtol=1e-9)
            assert_close(found.sink, expected.sink, rtol=1e-9)
            assert found.context_tokens == expected.context_tokens
            assert torch.equal(found.input_ids, expected.input_ids)


@pytest.mark.parametrize("case", only_families(CAUSAL), ids=lambda case: case.name)
def test_batches_of_every_causal_family(case: Case) -> None:
    method = ultra(case.model(), word_level())
    batch: Any = method.attribute(*DOCUMENTS, separator=" : ")
    for found, context, summary in zip(batch, *DOCUMENTS, strict=True):
        alone: Any = method.attribute(context, summary, separator=" : ")
        assert_close(found.matrix, alone.matrix)
        assert alone.scores.any()


def test_layers_of_one_run_equal_runs_of_their_own() -> None:
    model, calls = llama(), list[str]()
    method = ultra(model, word_level())
    model.model.layers[0].register_forward_hook(lambda *_: calls.append("ran"))
    layers: Any = ["model.layers.0", -1, model.model.layers[1]]
    several: Any = method.attribute(CONTEXT, SUMMARY, layer=layers)
    assert [found.layer for found in several] == [1, 3, 2]
    for found, layer in zip(several, layers, strict=True):
        alone: Any = method.attribute(CONTEXT, SUMMARY, layer=layer)
        assert_close(found.matrix, alone.matrix, rtol=1e-6)
    method.attribute(*DOCUMENTS)  # several samples are probed once
    calls.clear()
    documents: Any = method.attribute(*DOCUMENTS, layer=(3, 1))
    assert calls == ["ran"]
    assert [[found.layer for found in each] for each in documents] == [[3, 1]] * 3
    one: Any = method.attribute(CONTEXT, SUMMARY, layer=[2])
    assert isinstance(one, list) and len(one) == 1


def test_a_model_without_bos_keeps_its_first_token_unless_asked() -> None:
    method = ultra(gpt2(vocab_size=300), byte_level())
    keep: Any = method.attribute("the cat sat", " the mat")
    apart: Any = method.attribute("the cat sat", " the mat", sink="separate")
    assert keep.sink is None and keep.sink_token is None
    assert keep.source_positions[0] == 0 and apart.source_positions[0] == 1
    assert torch.equal(apart.sink, keep.matrix[:, 0]) and torch.equal(apart.matrix, keep.matrix[:, 1:])
    assert apart.sink_token == "the" and apart.context_tokens == keep.context_tokens[1:]


def test_bos_is_the_sink_either_way() -> None:
    method = ultra(llama(), word_level())
    keep: Any = method.attribute(CONTEXT, SUMMARY)
    apart: Any = method.attribute(CONTEXT, SUMMARY, sink="separate")
    assert keep.sink_token == apart.sink_token == "<s>"
    assert torch.equal(keep.sink, apart.sink) and torch.equal(keep.matrix, apart.matrix)


def test_without_a_separator_predictions_begin_at_the_last_token_of_the_context() -> None:
    method = ultra(llama(), word_level())
    rows = {}
    for rule in ("max", "keep", "zero"):
        found: Any = method.attribute(
            CONTEXT, SUMMARY, separator="", position="prediction", score="sum", self_token=rule
        )
        assert found.latent_positions[0] == found.source_positions[-1]
        assert_close(found.matrix, loop("llama", llama(), found, "sum"))
        rows[rule] = found.matrix[0]
    assert rows["zero"][-1] == 0 and rows["max"][-1] == rows["max"][:-1].max() and rows["keep"][-1] >= 1


@pytest.mark.parametrize("name", ["bert", "modern_bert", "llama"])
def test_spans_are_explained_in_encoders_too(name: str) -> None:
    model = MODELS[name]().double()
    for self_token in ("max", "keep", "zero"):
        found: Any = ultra(model, word_level("<s> $A </s>")).attribute_spans(
            CONTEXT, [(4, 7), -2], self_token=self_token, **PAPER
        )
        assert type(found) is SpanContribution
        assert found.target_tokens == ("cat", "Lily") and found.target_positions.tolist() == [2, 11]
        assert found.source_positions.tolist() == list(range(1, 12)), "neither CLS nor SEP"
        assert_close(found.matrix, loop(name, model, found, "sum"), rtol=1e-9)


def test_spans_of_several_texts_equal_the_loop() -> None:
    method = ultra(bert().double(), word_level("<s> $A </s>"))
    texts, targets = DOCUMENTS[0], [[(0, 7)], [3, (0, 1)], [(0, 4)]]
    sources = [[(8, 22)], None, [(5, 8), 0]]
    batch: Any = method.attribute_spans(texts, targets, sources, layer=[1, 3])
    for layers, *asked in zip(batch, texts, targets, sources, strict=True):
        alone: Any = method.attribute_spans(*asked, layer=[1, 3])
        for found, expected in zip(layers, alone, strict=True):
            assert_close(found.matrix, expected.matrix, rtol=1e-9)
            assert found.source_tokens == expected.source_tokens
    assert batch[2][0].source_positions.tolist() == [0, 2] and batch[2][0].sink is None


def test_cls_as_a_target() -> None:
    """Its own entry is no relevance of the sink."""
    method = ultra(bert(), word_level("<s> $A </s>"))
    own: Any = method.attribute_spans(CONTEXT, [0, 2], self_token="keep")
    zero: Any = method.attribute_spans(CONTEXT, [0, 2], self_token="zero")
    assert own.sink[0] >= 1 and zero.sink[0] == 0 and own.sink[1] == zero.sink[1] > 0
    assert own.target_tokens == ("", "cat")


def test_vectors_and_functions_are_scores() -> None:
    model, direction = bert().double(), torch.linspace(-1, 1, 32, dtype=torch.float64)
    method = ultra(model, word_level("<s> $A </s>"))
    found: Any = method.attribute_spans(CONTEXT, (4, 7), score=direction)
    assert found.score == "weights [32]"
    assert_close(found.matrix, loop("bert", model, found, direction), rtol=1e-9)

    def along(latents: Tensor) -> Tensor:
        return latents @ direction

    called: Any = method.attribute_spans(CONTEXT, (4, 7), score=along)
    assert called.score == "along"
    assert_close(called.matrix, found.matrix, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:all scores are zero")
def test_a_constant_score_is_called_one() -> None:
    """Behind a LayerNorm with weight one the sum of a latent is fixed."""
    model = bert()
    for layer in model.encoder.layer:
        torch.nn.init.ones_(layer.output.LayerNorm.weight)
    with pytest.warns(UserWarning, match=r"the score is constant at layer 3.*vector score"):
        ultra(model, word_level("<s> $A </s>")).attribute_spans(CONTEXT, (4, 7), score="sum")


def test_nothing_to_see_at_the_embedding() -> None:
    with pytest.warns(UserWarning, match="all scores are zero at layer 0"):
        found: Any = ultra(llama(), word_level()).attribute(CONTEXT, SUMMARY, layer=0)
    assert not found.matrix.any()


@pytest.mark.parametrize("wrong", [None, "inside"])
def test_the_model_is_left_as_found(wrong: str | None) -> None:
    model, tokenizer = unusual(llama()), word_level(padding_side="left")
    if wrong:

        def explode(*_: Any) -> None:
            raise KeyError("thrown inside the model")

        model.model.layers[2].mlp.register_forward_pre_hook(explode)
    before, torch_before, sides = state_of(model), state_of_torch(), tokenizer.padding_side
    if wrong:
        with pytest.raises(KeyError, match="thrown inside"):
            ultra(model, tokenizer).attribute(*DOCUMENTS)
    else:
        ultra(model, tokenizer).attribute(*DOCUMENTS)
    assert_same(state_of(model), before)
    assert_same(state_of_torch(), torch_before)
    assert tokenizer.padding_side == sides and tokenizer.pad_token is None


def test_a_trained_model_looks_at_what_it_repeats() -> None:
    model, tokenizer = stories()
    context = "Once upon a time, there was a little girl named Lily. One day, she saw a big, red ball in the park."
    found: Any = ultra(model, tokenizer).attribute(context, " Lily saw a red ball.", **PAPER)
    assert found.sink_token == "<s>" and "".join(found.context_tokens) == context
    assert_close(found.matrix, loop("llama", model, found, "sum"), rtol=1e-4)
    words = {word.text for word in sorted(found.words("max"), key=lambda word: -word.score)[:6]}
    assert {"Lily", "saw"} <= words
