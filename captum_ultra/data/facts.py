"""Documents whose summaries rest on known words: facts about a few people, in other words than the summary's.

    Omar lives in Paris. Mara grew up in Rome. ...
    TL;DR: The first home of Mara was somewhere in Italy.

A context states facts in random order, one sentence each, among sentences that state nothing. The
summary states one or two of the facts in other words: it says the value itself ("copied") or the word
of its group ("derived"). Its evidence is where the context states that fact: the name, the words that
tell the relation, the colour of a thing, and the value. The words that begin a sentence of the summary tell
the relation; that determines the rest, and only the context tells it. Names, kinds of values and colours
recur within a document, and the sentences come in any order.

Document k of seed s is a pure function of (split, s, k), as are the scenes of
:mod:`captum_ultra.data.scenes`; the splits are different random streams whatever the seeds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from torch.utils.data import Dataset

from captum_ultra.data.facts_language import COLOURS, FILLERS, GROUPS, NAMES, RELATIONS, group_of
from captum_ultra.data.scenes import SPLITS

__all__ = ["SEPARATOR", "Claim", "Document", "Fact", "Facts", "Span", "write_document"]

Role = Literal["subject", "relation", "colour", "value"]
Form = Literal["copied", "derived"]

SEPARATOR = "\nTL;DR:"

# In one document; the values of a kind are of different groups.
_PEOPLE, _COLOURS, _VALUES = 3, 3, 3


@dataclass(frozen=True)
class Fact:
    """A name, a relation of :data:`~captum_ultra.data.facts_language.RELATIONS`, a value; things have a colour."""

    subject: str
    relation: str
    value: str
    colour: str | None = None


@dataclass(frozen=True)
class Span:
    """A word by its characters ``start:end`` in a text, and what it is of a fact."""

    start: int
    end: int
    role: Role


@dataclass(frozen=True)
class Claim:
    """One sentence of a summary.

    Attributes:
        fact: what it states.
        form: "copied" if it says the value itself, "derived" if it says the value's group.
        content: the words of the summary that state the fact (name, colour, value), in their order.
        evidence: the words of the context that they rest on, in their order.
    """

    fact: Fact
    form: Form
    content: tuple[Span, ...]
    evidence: tuple[Span, ...]


@dataclass(frozen=True)
class Document:
    """A context, a summary that states some of its facts, and where the context states them.

    Attributes:
        context: sentences, separated by spaces.
        summary: one sentence for each claim.
        claims: what the summary states, in its order.
        facts: all facts of the context, in its order.
    """

    context: str
    summary: str
    claims: tuple[Claim, ...]
    facts: tuple[Fact, ...]

    @property
    def text(self) -> str:
        """Context, separator and summary in one, as a language model reads them."""
        return f"{self.context}{SEPARATOR} {self.summary}"

    @property
    def summary_start(self) -> int:
        """Where the summary's characters start in :attr:`text`."""
        return len(self.text) - len(self.summary)


def write_document(
    seed: int,
    index: int,
    *,
    split: str = "held_out",
    facts: tuple[int, int] = (5, 8),
    fillers: tuple[int, int] = (2, 4),
    claims: tuple[int, int] = (1, 2),
) -> Document:
    """Write document ``index`` of a seed.

    Args:
        seed: the stream of documents, a non-negative integer.
        index: which document of the stream, a non-negative integer.
        split: "train" or "held_out"; they are different streams.
        facts: fewest and most facts of the context, each of another relation, at most 8.
        fillers: fewest and most sentences that state nothing.
        claims: fewest and most sentences of the summary; no more than there are facts.

    Returns:
        A :class:`Document`.

    Raises:
        ValueError: for a negative seed or index, an unknown split, or impossible ranges.

    Example:
        >>> document = write_document(seed=0, index=0)
        >>> claim = document.claims[0]
        >>> [document.context[span.start : span.end] for span in claim.evidence if span.role == "subject"] == [
        ...     claim.fact.subject
        ... ]
        True
    """
    _check(seed, index, split, facts, claims, fillers)
    rng = np.random.default_rng([SPLITS.index(split), seed, index, 2])
    stated, values = _draw_facts(rng, int(rng.integers(facts[0], facts[1] + 1)))
    context = _Text()
    evidence: list[tuple[Span, ...]] = [()] * len(stated)
    idle = [-1] * int(rng.integers(fillers[0], fillers[1] + 1))
    for number in rng.permutation([*range(len(stated)), *idle]):
        if number < 0:
            _write_filler(context, rng, stated, values)
        else:
            relation = RELATIONS[stated[number].relation]
            evidence[number] = context.write(_pick(rng, relation.stated), _slots(stated[number]))

    summary = _Text()
    written: list[Claim] = []
    for number in rng.permutation(len(stated))[: int(rng.integers(claims[0], claims[1] + 1))]:
        fact = stated[number]
        form: Form = "derived" if rng.random() < 0.5 else "copied"
        relation = RELATIONS[fact.relation]
        content = summary.write(getattr(relation, form), _slots(fact, form))
        written.append(Claim(fact, form, content, evidence[number]))
    order = sorted(range(len(stated)), key=lambda number: evidence[number][0].start)
    return Document(context.text, summary.text, tuple(written), tuple(stated[number] for number in order))


class Facts(Dataset[Document]):
    """A stretch of a stream of documents, written when asked for.

    Args:
        length: number of documents.
        seed: the stream, as in :func:`write_document`.
        split: "train" or "held_out".
        facts: fewest and most facts of a context.
        claims: fewest and most sentences of a summary.

    Example:
        >>> documents = Facts(2, seed=7)
        >>> len(documents), documents[1] == Facts(5, seed=7)[1]
        (2, True)
    """

    def __init__(
        self,
        length: int,
        seed: int = 0,
        *,
        split: str = "held_out",
        facts: tuple[int, int] = (5, 8),
        claims: tuple[int, int] = (1, 2),
    ) -> None:
        if length < 1:
            raise ValueError(f"length is {length}; ask for at least one document")
        _check(seed, 0, split, facts, claims)
        self.length, self.seed, self.split, self.facts, self.claims = length, seed, split, facts, claims

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Document:
        if not 0 <= index < self.length:
            raise IndexError(f"document {index} of {self.length}")
        return write_document(self.seed, index, split=self.split, facts=self.facts, claims=self.claims)

    def __iter__(self) -> Iterator[Document]:
        return (self[index] for index in range(self.length))


class _Text:
    """A text that grows by sentences and knows where their words are."""

    def __init__(self) -> None:
        self.text = ""

    def write(self, template: str, slots: dict[str, list[tuple[str, Role]]]) -> tuple[Span, ...]:
        """Append a sentence, its slots filled from the ends of their lists; the words that state a fact."""
        spans: list[Span] = []
        for place, part in enumerate(template.split()):
            role: Role | None = None
            if part in slots:
                word, role = slots[part].pop()
            else:
                word = part.removeprefix("*")
                role = "relation" if part.startswith("*") else None
                word = word.capitalize() if place == 0 else word
            self.text += (" " if self.text else "") + word
            if role is not None:
                spans.append(Span(len(self.text) - len(word), len(self.text), role))
        self.text += "."
        return tuple(spans)


def _draw_facts(rng: np.random.Generator, count: int) -> tuple[list[Fact], dict[str, list[str]]]:
    """Facts of different relations about few people, with few values of a kind; and those values by kind."""
    names = [NAMES[number] for number in rng.permutation(len(NAMES))[:_PEOPLE]]
    values = {kind: _draw_values(rng, kind) for kind in GROUPS}
    colours = [COLOURS[number] for number in rng.permutation(len(COLOURS))[:_COLOURS]]
    facts: list[Fact] = []
    for number in rng.permutation(len(RELATIONS))[:count]:
        relation = list(RELATIONS)[number]
        kind = RELATIONS[relation].kind
        colour = _pick(rng, colours) if kind == "thing" else None
        facts.append(Fact(_pick(rng, names), relation, _pick(rng, values[kind]), colour))
    return facts, values


def _draw_values(rng: np.random.Generator, kind: str) -> list[str]:
    groups = list(GROUPS[kind].values())
    return [_pick(rng, groups[number]) for number in rng.permutation(len(groups))[:_VALUES]]


def _slots(fact: Fact, form: Form = "copied") -> dict[str, list[tuple[str, Role]]]:
    value = group_of(fact.value) if form == "derived" else fact.value
    slots: dict[str, list[tuple[str, Role]]] = {"N": [(fact.subject, "subject")], "V": [(value, "value")]}
    return slots | {"C": [(fact.colour, "colour")]} if fact.colour else slots


def _write_filler(
    context: _Text, rng: np.random.Generator, facts: Sequence[Fact], values: dict[str, list[str]]
) -> None:
    """A sentence that states nothing, with names, values and groups of this document."""
    names = sorted({fact.subject for fact in facts})
    pool = [value for kind in values.values() for value in kind]
    chosen = [pool[number] for number in rng.permutation(len(pool))]
    slots: dict[str, list[tuple[str, Role]]] = {
        "N": [(names[number], "subject") for number in rng.permutation(len(names))],
        "V": [(value, "value") for value in chosen],
        "G": [(group_of(value), "value") for value in chosen],
    }
    # With one person left there is nobody to wave with.
    fillers = [filler for filler in FILLERS if filler.split().count("N") <= len(names)]
    context.write(_pick(rng, fillers), slots)


def _pick(rng: np.random.Generator, items: Sequence[str]) -> str:
    return items[int(rng.integers(len(items)))]


def _check(
    seed: int,
    index: int,
    split: str,
    facts: tuple[int, int],
    claims: tuple[int, int],
    fillers: tuple[int, int] = (0, 0),
) -> None:
    if seed < 0 or index < 0:
        raise ValueError(f"seed {seed}, index {index}; both are non-negative")
    if split not in SPLITS:
        raise ValueError(f"split {split!r}; choose one of {', '.join(SPLITS)}")
    if not 1 <= facts[0] <= facts[1] <= len(RELATIONS):
        raise ValueError(f"facts {facts}; give the fewest and the most, within 1..{len(RELATIONS)}")
    if not 1 <= claims[0] <= claims[1] <= facts[0]:
        raise ValueError(f"claims {claims} with facts {facts}; give the fewest and the most, within 1..{facts[0]}")
    if not 0 <= fillers[0] <= fillers[1]:
        raise ValueError(f"fillers {fillers}; give the fewest and the most, from 0")
