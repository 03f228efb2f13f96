"""One document of facts: does the relevance of its summary find the evidence, and is it missed when removed?"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.data.facts import Document
from captum_ultra.experiments.average_precision import average_precision
from captum_ultra.experiments.evidence_scores import Encoded, Question, encode
from captum_ultra.experiments.latent_methods.cells import Setting, key_of
from captum_ultra.experiments.latent_methods.maps import latent_rows, mixed, ranks
from captum_ultra.experiments.latent_methods.variants import Variant
from captum_ultra.perturbation import TokenScores, comprehensiveness
from captum_ultra.perturbation.seeds import seeded_generator

__all__ = ["POSITIONS", "REMOVED", "TEXT_MEASURES", "measure_document"]

POSITIONS = ("own", "before")
TEXT_MEASURES = ("copied", "derived", "summary", "removal")
REMOVED = (1, 5, 10, 20, 50)
_DIGITS = 6


def measure_document(
    model: nn.Module, tokenizer: Any, document: Document, variants: Sequence[Variant], seed: int, number: int,
    removed: Callable[[Setting], bool] = lambda setting: True,
) -> dict[str, float]:  # fmt: skip
    """Measure every variant at every layer and both positions.

    Args:
        model: a causal language model of transformers.
        tokenizer: its own.
        document: with planted evidence.
        variants: that explain.
        seed: with the number, of the order of equal scores and of the random orders.
        number: of the document.
        removed: whether tokens are removed in the order of a setting.

    Returns:
        By :func:`~captum_ultra.experiments.latent_methods.cells.key_of`: "copied", "derived" (the mean over a
        document's claims of that form) and "summary" are average precision of the evidence; "removal" is the loss of
        the summary's log-likelihood (nats), mean over ``REMOVED`` per cent of the context's tokens.

    Example:
        >>> from captum_ultra.data import Facts
        >>> from captum_ultra.models.llama import facts_llama, facts_tokenizer
        >>> variants = [Variant("rollout", "rollout")]
        >>> found = measure_document(facts_llama(), facts_tokenizer(), Facts(1)[0], variants, 0, 0)
        >>> 0 < found["rollout|2|before|summary"] <= 1, "rollout|4|own|removal" in found, "chance|0||removal" in found
        (True, True, True)
    """
    encoded, generator = encode(tokenizer, document), seeded_generator(seed, number)
    order = torch.randperm(encoded.context.stop - encoded.context.start, generator=generator)
    rankings = {**_controls(encoded, order), **_rankings(model, encoded, variants, order)}
    found: dict[str, list[float]] = defaultdict(list)
    for (setting, index), ranking in rankings.items():
        question = encoded.questions[index]
        found[key_of(setting, question.name)].append(float(average_precision(ranking, question.evidence)))
    numbers = {key: sum(each) / len(each) for key, each in found.items()}
    summary = {setting: ranking for (setting, index), ranking in rankings.items() if not index}
    orders = {each: ranking for each, ranking in summary.items() if not each.layer or removed(each)}
    numbers |= {key_of(each, "removal"): loss for each, loss in _losses(model, encoded, orders, generator).items()}
    return {key: round(value, _DIGITS) for key, value in numbers.items()}


def _rankings(
    model: nn.Module, encoded: Encoded, variants: Sequence[Variant], order: Tensor
) -> dict[tuple[Setting, int], Tensor]:
    """(setting, number of the question) -> places of the context's tokens [C]."""
    summary = encoded.questions[0].tokens
    places = [summary[0] - 1, *summary]  # every token has one before it
    rows: dict[int, dict[str, Tensor]] = defaultdict(dict)
    for layer, name, found in latent_rows(model, encoded.ids, places, variants):
        rows[layer][name] = found[:, encoded.context]
    return {
        (Setting(name, layer, position), index): ranks(scores, order)
        for layer, of_layer in rows.items()
        for index, question in enumerate(encoded.questions)
        for position in POSITIONS
        for name, scores in mixed(_of_question(of_layer, question, position, places[0])).items()
    }


def _of_question(rows: dict[str, Tensor], question: Question, position: str, first: int) -> dict[str, Tensor]:
    """Scores of the context [C]: the mean over the question's tokens, or over the places before them."""
    chosen = torch.tensor(question.tokens) - first - int(position == "before")
    return {name: each[chosen].mean(0) for name, each in rows.items()}


def _controls(encoded: Encoded, order: Tensor) -> dict[tuple[Setting, int], Tensor]:
    """Chance, nearness, and the evidence itself."""
    found = {}
    for index, question in enumerate(encoded.questions):
        nothing = torch.zeros(len(order))
        found[Setting("chance"), index] = ranks(nothing, order)
        found[Setting("nearness"), index] = torch.arange(len(order)).float()
        found[Setting("the evidence"), index] = ranks(question.evidence.float(), order)
    return found


def _losses(
    model: nn.Module, encoded: Encoded, orders: dict[Setting, Tensor], generator: torch.Generator
) -> dict[Setting, float]:
    """Loss of log-likelihood of the summary; chance is the mean of random orders."""
    targets = torch.tensor(encoded.questions[0].tokens)
    sources = torch.arange(encoded.ids.shape[1])[encoded.context]
    text = TokenScores(encoded.ids[0], sources, targets, torch.stack(list(orders.values())))
    curve = comprehensiveness(model, text, k=REMOVED, seed=generator)
    losses = dict(zip(orders, (len(targets) * curve.mean).tolist(), strict=True))
    return {**losses, Setting("chance"): len(targets) * curve.control.mean}
