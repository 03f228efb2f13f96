"""The evidence measure: its ranking, its encoding of documents, its baselines, and a small run of the whole."""

import json
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ultra.data import Facts
from captum_ultra.experiments import evidence as experiment
from captum_ultra.experiments import evidence_scores as scores
from captum_ultra.experiments.average_precision import average_precision, top_one
from captum_ultra.experiments.recall import main as recall_main
from captum_ultra.experiments.recall import recall
from captum_ultra.models.llama import facts_llama, facts_tokenizer


@pytest.fixture(scope="module")
def model():
    return facts_llama()


@pytest.fixture(scope="module")
def tokenizer():
    return facts_tokenizer()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=1, max_size=30))
def test_average_precision_agrees_with_scikit_learn_and_ties_too(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    ranking = torch.tensor([score for score, _ in pairs]).double()
    positive = torch.tensor([flag for _, flag in pairs])
    if not positive.any():
        with pytest.raises(ValueError, match="no positive"):
            average_precision(ranking, positive)
        return
    expected = metrics.average_precision_score(positive.numpy(), ranking.numpy())
    assert average_precision(ranking, positive).item() == pytest.approx(expected)
    best = [flag for score, flag in pairs if score == max(score for score, _ in pairs)]
    assert top_one(ranking, positive).item() == pytest.approx(sum(best) / len(best))


def test_rows_are_ranked_one_by_one():
    generator = torch.Generator().manual_seed(0)
    ranking, positive = torch.randn(3, 20, generator=generator), torch.rand(3, 20, generator=generator) < 0.3
    for measure in (average_precision, top_one):
        assert measure(ranking, positive).tolist() == [
            measure(r, p).item() for r, p in zip(ranking, positive, strict=True)
        ]
    with pytest.raises(ValueError, match="one shape"):
        average_precision(ranking, positive[0])
    with pytest.raises(ValueError, match="not a number"):
        top_one(ranking.fill_(float("nan")), positive)


def test_chance_has_about_the_share_of_the_positives():
    positive = torch.arange(400).expand(300, -1) < 40
    ranking = torch.rand(300, 400, generator=torch.Generator().manual_seed(0))
    assert average_precision(ranking, positive).mean().item() == pytest.approx(0.1, abs=0.02)
    assert top_one(ranking, positive).mean().item() == pytest.approx(0.1, abs=0.06)


def test_questions_are_the_words_of_the_document(tokenizer):
    for document in Facts(10):
        encoded = scores.encode(tokenizer, document)
        tokens = tokenizer.convert_ids_to_tokens(encoded.ids[0].tolist())
        assert tokens[0] == "<s>" and tokens[encoded.context.stop] == "TL;DR:"
        context = tokens[encoded.context]
        assert context == document.context.replace(".", " .").split()
        whole, *claims = encoded.questions
        assert [tokens[place] for place in whole.tokens] == document.summary.replace(".", " .").split()
        union = torch.zeros_like(whole.evidence)
        for claim, question in zip(document.claims, claims, strict=True):
            assert question.name == claim.form
            union |= question.evidence
            found = [word for word, flag in zip(context, question.evidence.tolist(), strict=True) if flag]
            assert found == [document.context[span.start : span.end] for span in claim.evidence]
            told = [document.summary[span.start : span.end] for span in claim.content]
            assert [tokens[place] for place in question.tokens] == told
            assert question.content == question.tokens
        assert torch.equal(union, whole.evidence)


def test_a_tokenizer_that_splits_words_is_refused(tokenizer):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    with pytest.raises(ValueError, match="not one token"):
        scores.encode(PreTrainedTokenizerFast(tokenizer_object=letters, unk_token="?"), Facts(1)[0])


def test_attention_maps_are_eager_ones_and_the_model_is_left_as_it_was(model, tokenizer):
    ids = scores.encode(tokenizer, Facts(1)[0]).ids
    before = model.config._attn_implementation
    maps = scores.attention_maps(model, ids)
    assert model.config._attn_implementation == before != "eager"
    assert len(maps) == model.config.num_hidden_layers
    for attention in maps:
        assert torch.allclose(attention.sum(1), torch.ones(len(attention)), atol=1e-5)
        assert not attention.triu(1).any()
    with pytest.raises(RuntimeError, match="stop"), scores.eager(model):
        raise RuntimeError("stop")
    assert model.config._attn_implementation == before


def test_gradient_scores_against_autograd_by_hand(model, tokenizer):
    encoded = scores.encode(tokenizer, Facts(1)[0])
    tokens = encoded.questions[1].tokens
    embeddings = model.get_input_embeddings()(encoded.ids).detach().requires_grad_()
    log_probabilities = model(inputs_embeds=embeddings).logits.log_softmax(-1)[0]
    total = sum(log_probabilities[place - 1, encoded.ids[0, place]] for place in tokens)
    (gradient,) = torch.autograd.grad(total, embeddings)
    expected = (gradient * embeddings).sum(-1).abs()[0].detach()
    torch.testing.assert_close(scores.gradient_scores(model, encoded.ids, tokens), expected)
    assert not any(p.grad is not None for p in model.parameters())


def test_exact_match_finds_copied_values_and_misses_derived_ones(tokenizer):
    shares = {"copied": [], "derived": []}
    for document in Facts(60):
        encoded = scores.encode(tokenizer, document)
        for claim, question in zip(document.claims, encoded.questions[1:], strict=True):
            value = next(span for span in claim.evidence if span.role == "value")
            place = tokenizer(document.text).char_to_token(value.start)
            shares[claim.form].append(scores.match_scores(encoded.ids, question.content)[place].item())
    assert set(shares["copied"]) == {1.0} and set(shares["derived"]) == {0.0}


def test_recall_counts_the_words_of_every_claim(model, tokenizer, monkeypatch, capsys):
    documents = Facts(20, seed=1)
    found = recall(model, tokenizer, documents)
    claims = [claim for document in documents for claim in document.claims]
    assert found["subject"][1] == len(claims) == found["copied"][1] + found["derived"][1]
    assert found["colour"][1] == sum(claim.fact.colour is not None for claim in claims)

    # One that always says the same is right where that is the word, and nowhere else.
    constant = tokenizer.convert_tokens_to_ids(claims[0].fact.subject)

    class Parrot:
        def __call__(self, ids, use_cache):
            return type("Output", (), {"logits": torch.eye(len(tokenizer))[torch.full_like(ids, constant)]})

    named = sum(claim.fact.subject == claims[0].fact.subject for claim in claims)
    assert recall(Parrot(), tokenizer, documents)["subject"] == (named / len(claims), len(claims))
    assert recall(Parrot(), tokenizer, documents)["copied"][0] == 0

    monkeypatch.setattr(sys, "argv", ["run", "--documents", "20", "--seed", "1"])
    recall_main()
    assert f"subject: {found['subject'][0]:.4f} of {len(claims)}" in capsys.readouterr().out


@pytest.fixture(scope="module")
def result(model, tokenizer):
    return experiment.find_evidence(model, tokenizer, Facts(12, seed=1))


def test_relevance_is_above_chance_and_every_cell_is_filled(result, model):
    layers = set(range(1, model.config.num_hidden_layers + 1))
    for methods in result.values():
        assert set(methods) == {*experiment.LATENT, *experiment.OTHERS}
        assert all(set(methods[name]) == layers for name in experiment.LATENT)
        assert all(set(methods[name]) == {0} for name in experiment.OTHERS)
    chance = result["summary"]["chance"][0]
    for name in ("ULTra_S, before", "ULTra_E, before"):
        best = max(result["summary"][name].values(), key=lambda cell: cell.average_precision)
        assert best.average_precision > chance.average_precision + 4 * chance.average_precision_error


def test_ranking_by_the_evidence_itself_is_perfect(tokenizer):
    for question in scores.encode(tokenizer, Facts(1)[0]).questions:
        assert average_precision(question.evidence.float(), question.evidence) == 1
        assert top_one(question.evidence.float(), question.evidence) == 1


def test_a_table_has_a_row_for_every_method(result):
    table = experiment.markdown(result, "derived", "top_one").splitlines()
    assert table[0] == "| method | no layer | layer 1 | layer 2 | layer 3 | layer 4 |"
    assert len(table) == 2 + len(experiment.LATENT) + len(experiment.OTHERS)
    cell = result["derived"]["exact match"][0]
    assert f"| exact match | {cell.top_one:.3f} ± {cell.top_one_error:.3f} |" in "\n".join(table)


def test_the_command_prints_the_tables_and_writes_the_numbers(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["run", "--documents", "3", "--output", str(tmp_path / "numbers.json")])
    experiment.main()
    printed = capsys.readouterr().out
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    cell = numbers["evidence"]["summary"]["ULTra_S, own"]["4"]
    assert cell["documents"] == 3 and f"{cell['average_precision']:.3f}" in printed
    assert numbers["options"]["seed"] == "0"
