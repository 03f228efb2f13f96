"""Documents of facts: always the same, evidence exact, and nothing but the statement gives it away."""

import subprocess
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ultra.data import Facts, write_document
from captum_ultra.data.facts import SEPARATOR
from captum_ultra.data.facts_language import COLOURS, FILLERS, GROUPS, NAMES, RELATIONS, group_of, words
from captum_ultra.data.scenes import SPLITS

DOCUMENTS = 300


def sentence_around(text, span):
    start = text.rfind(".", 0, span.start) + 1
    return text[start : text.index(".", span.end - 1) + 1].strip()


def as_template(sentence, fact):
    """The sentence with the fact's words taken out again."""
    slots = {fact.subject: "N", fact.value: "V", group_of(fact.value): "V", fact.colour: "C"}
    first, *rest = sentence.removesuffix(".").split()
    first = first if first in slots else first.lower()
    return " ".join(slots.get(word, word) for word in (first, *rest))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**31), index=st.integers(0, 2**31), split=st.sampled_from(SPLITS))
def test_spans_are_the_words_that_state_the_fact(seed, index, split):
    document = write_document(seed, index, split=split)
    assert 1 <= len(document.claims) <= 2 and 5 <= len(document.facts) <= 8
    assert document.text == document.context + SEPARATOR + " " + document.summary
    assert document.text[document.summary_start :] == document.summary
    for claim in document.claims:
        fact = claim.fact
        assert fact in document.facts
        said = {span.role: document.context[span.start : span.end] for span in claim.evidence}
        relation = [document.context[span.start : span.end] for span in claim.evidence if span.role == "relation"]
        assert said["subject"] == fact.subject and said["value"] == fact.value
        assert said.get("colour") == fact.colour and relation

        # All in one sentence, which is one of the relation's, with its marked words.
        (sentence,) = {sentence_around(document.context, span) for span in claim.evidence}
        stated = {template.replace("*", ""): template for template in RELATIONS[fact.relation].stated}
        template = stated[as_template(sentence, fact)]
        assert relation == [part[1:] for part in template.split() if part.startswith("*")]

        # The summary says the same fact, in the form that the claim names.
        content = {span.role: document.summary[span.start : span.end] for span in claim.content}
        value = fact.value if claim.form == "copied" else group_of(fact.value)
        assert content == {"subject": fact.subject, "value": value} | ({"colour": fact.colour} if fact.colour else {})
        (sentence,) = {sentence_around(document.summary, span) for span in claim.content}
        assert as_template(sentence, fact) == getattr(RELATIONS[fact.relation], claim.form)


def test_a_document_does_not_depend_on_order_or_process():
    backwards = [Facts(6, seed=3)[index] for index in reversed(range(6))][::-1]
    assert backwards == [write_document(3, index) for index in range(6)]
    code = "from captum_ultra.data import write_document; print(write_document(3, 5).text)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert other == backwards[5].text + "\n"


def test_seeds_and_splits_give_different_documents():
    streams = [{write_document(seed, index, split=split).text for index in range(DOCUMENTS)}
               for seed in (0, 1) for split in SPLITS]  # fmt: skip
    assert len(set.union(*streams)) == 4 * DOCUMENTS


def test_a_relation_is_stated_once_and_a_groups_word_means_one_value():
    """So the words of a summary before a name or a value determine it."""
    for document in Facts(DOCUMENTS):
        relations = [fact.relation for fact in document.facts]
        assert len(set(relations)) == len(relations)
        members = {fact.value for fact in document.facts}
        assert len({group_of(value) for value in members}) == len(members)


def test_neither_name_nor_value_nor_place_gives_the_evidence_away():
    """A name is in several sentences, a kind of value in several facts, and the stated sentence can stand anywhere."""
    names, values, kinds, places = [], [], [], []
    for document in Facts(DOCUMENTS):
        said = Counter(document.context.replace(".", "").split())
        for claim in document.claims:
            kind = RELATIONS[claim.fact.relation].kind
            names.append(said[claim.fact.subject] > 1)
            values.append(said[claim.fact.value] > 1)
            kinds.append(sum(RELATIONS[fact.relation].kind == kind for fact in document.facts) > 1)
            places.append(claim.evidence[0].start / len(document.context))
    assert sum(names) / len(names) > 0.9
    assert sum(values) / len(values) > 0.25
    assert sum(kinds) / len(kinds) > 0.6
    assert abs(sum(places) / len(places) - 0.45) < 0.05, "a sentence's start is uniform in what a sentence leaves"


def test_derived_values_are_not_in_their_evidence_and_sometimes_elsewhere():
    forms, elsewhere = Counter(), 0
    for document in Facts(DOCUMENTS):
        for claim in document.claims:
            forms[claim.form] += 1
            if claim.form == "derived":
                group = group_of(claim.fact.value)
                assert all(document.context[span.start : span.end] != group for span in claim.evidence)
                elsewhere += group in document.context.replace(".", "").split()
    assert abs(forms["derived"] / sum(forms.values()) - 0.5) < 4 * (0.25 / sum(forms.values())) ** 0.5
    assert elsewhere > 0


def test_the_words_of_the_language_cover_every_document():
    known = set(words())
    assert len(known) == len(words()) and list(words()) == sorted(words())
    for split in SPLITS:
        for document in Facts(DOCUMENTS, split=split):
            text = f"{document.context} {document.summary}".replace(".", " .")
            assert set(text.split()) <= known


def test_the_tables_of_the_language_are_unambiguous():
    groups = [group for kind in GROUPS.values() for group in kind]
    members = [member for kind in GROUPS.values() for group in kind.values() for member in group]
    everything = [*NAMES, *COLOURS, *groups, *members]
    assert len(set(everything)) == len(everything)
    common = {part.removeprefix("*") for relation in RELATIONS.values()
              for template in (*relation.stated, relation.copied, relation.derived, *FILLERS)
              for part in template.split()}  # fmt: skip
    assert not common & set(everything)
    for relation in RELATIONS.values():
        for template in relation.stated:
            assert "*" in template and {"N", "V"} <= set(template.replace("*", "").split())
    opening = {relation.copied.split("N")[0] for relation in RELATIONS.values()}
    assert len(opening) == len(RELATIONS), "the words before the name tell the relation"
    assert opening == {relation.derived.split("N")[0] for relation in RELATIONS.values()}
    for relation in RELATIONS.values():
        before = relation.copied.split("V")[0], relation.derived.split("V")[0]
        assert len(set(before)) == 2, "and those before the value tell the form"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "non-negative"),
        ({"index": -1}, "non-negative"),
        ({"split": "test"}, "train, held_out"),
        ({"facts": (3, 2)}, "fewest"),
        ({"facts": (0, 2)}, r"1\.\.8"),
        ({"facts": (6, 9)}, r"1\.\.8"),
        ({"claims": (2, 1)}, "fewest"),
        ({"facts": (2, 4), "claims": (1, 3)}, r"1\.\.2"),
        ({"fillers": (1, 0)}, "fewest"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        write_document(**({"seed": 0, "index": 0} | arguments))


def test_the_largest_and_the_smallest_document():
    assert len(write_document(0, 0, facts=(8, 8), claims=(8, 8)).claims) == 8
    smallest = write_document(0, 0, facts=(1, 1), claims=(1, 1), fillers=(0, 0))
    assert len(smallest.facts) == 1 and smallest.context.count(".") == 1


def test_bad_stretches_are_named():
    with pytest.raises(ValueError, match="length"):
        Facts(0)
    with pytest.raises(ValueError, match="split"):
        Facts(1, split="test")
    with pytest.raises(IndexError, match="document 4 of 4"):
        Facts(4)[4]
    assert len(list(Facts(3))) == 3
