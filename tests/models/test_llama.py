"""The shipped language model: what it knows of its language, and that its folder is one of transformers'."""

from __future__ import annotations

import itertools
import json
import sys
from importlib import resources
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from captum_ultra.data import Facts
from captum_ultra.data.facts_language import words
from captum_ultra.models.library import ModelNotAvailableError
from captum_ultra.models.llama import facts_llama, facts_tokenizer

DOCUMENTS = 50


@pytest.fixture(scope="module")
def folder() -> Path:
    return Path(str(resources.files("captum_ultra.models") / "weights" / "facts_llama"))


def test_it_is_a_small_llama_in_evaluation_mode(folder: Path) -> None:
    from transformers import LlamaForCausalLM

    model = facts_llama()
    assert type(model) is LlamaForCausalLM and not model.training
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert sum(p.numel() for p in model.parameters()) <= 3_000_000
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    assert sum(file.stat().st_size for file in folder.iterdir()) < 4_000_000


def test_the_folder_loads_as_any_other_of_transformers(folder: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    text = Facts(1)[0].text
    assert tokenizer(text)["input_ids"] == facts_tokenizer()(text)["input_ids"]
    for name, weight in facts_llama().state_dict().items():
        torch.testing.assert_close(model.state_dict()[name].float(), weight)
    with safe_open(str(folder / "model.safetensors"), framework="pt") as file:
        training = json.loads(file.metadata()["training"])
    assert training["steps_done"] == training["steps"] and training["minutes"] > 0


def test_random_weights_of_the_same_architecture() -> None:
    trained, random = facts_llama(), facts_llama(pretrained=False)
    assert random.config.hidden_size == trained.config.hidden_size and not random.training
    assert not torch.equal(trained.lm_head.weight, random.lm_head.weight)


def test_the_facts_of_held_out_summaries_are_recalled() -> None:
    """Names, colours and values, copied and derived, predicted from the context and the words before them."""
    model, tokenizer = facts_llama(), facts_tokenizer()
    right: dict[str, list[bool]] = {"copied": [], "derived": []}
    for document in Facts(DOCUMENTS):
        batch = tokenizer(document.text, return_offsets_mapping=True, return_tensors="pt")
        starts = batch["offset_mapping"][0, :, 0].tolist()
        with torch.no_grad():
            predicted = model(batch["input_ids"]).logits[0].argmax(-1)
        for claim in document.claims:
            for span in claim.content:
                place = starts.index(document.summary_start + span.start)
                right[claim.form].append(bool(predicted[place - 1] == batch["input_ids"][0, place]))
    for form, hits in right.items():
        assert len(hits) > 20 and sum(hits) / len(hits) > 0.9, form


def test_every_document_tokenises_word_by_word_and_comes_back() -> None:
    tokenizer = facts_tokenizer()
    for split in ("train", "held_out"):
        for document in Facts(DOCUMENTS, split=split):
            ids = tokenizer(document.text)["input_ids"]
            assert ids[0] == tokenizer.bos_token_id and tokenizer.unk_token_id not in ids
            spaced = document.text.replace(".", " .").replace("\n", " ")
            assert tokenizer.convert_ids_to_tokens(ids)[1:] == spaced.split()
            assert tokenizer(tokenizer.decode(ids, skip_special_tokens=True))["input_ids"] == ids
    assert tokenizer.convert_tokens_to_ids(list(words())).count(tokenizer.unk_token_id) == 0
    assert tokenizer("Mara met Zaphod")["input_ids"][-1] == tokenizer.unk_token_id


def test_a_text_tokenises_as_its_parts_do() -> None:
    tokenizer, document = facts_tokenizer(), Facts(1)[0]
    parts = [tokenizer(part, add_special_tokens=False)["input_ids"]
             for part in (document.context, "\nTL;DR:", document.summary)]  # fmt: skip
    assert len(parts[1]) == 1
    assert tokenizer(document.text)["input_ids"] == [tokenizer.bos_token_id, *itertools.chain(*parts)]


def test_offsets_are_those_of_the_words() -> None:
    document = Facts(1)[0]
    batch = facts_tokenizer()(document.text, return_offsets_mapping=True)
    said = [document.text[start:end] for start, end in batch["offset_mapping"]]
    assert said[0] == "" and said[1:] == document.text.replace(".", " .").split()


@pytest.mark.parametrize("load", [facts_llama, facts_tokenizer])
def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, load) -> None:
    for imported in [known for known in sys.modules if known.split(".")[0] == "transformers"]:
        monkeypatch.delitem(sys.modules, imported)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModelNotAvailableError, match=r"transformers is not installed.*captum_ultra\[text\]"):
        load()
