"""Does the relevance of a summary's tokens find the words that the summary rests on?

    python -m captum_ultra.experiments.evidence --documents 200 --seed 0

The shipped Llama reads held-out documents of :mod:`captum_ultra.data.facts`, and the tokens of the
context are ranked by how relevant they are to the summary. For every method and layer: average precision
of the planted evidence among the context's tokens, and how often the highest token is evidence.

"summary" explains all tokens of a summary (lambda, the mean of their rows) and looks for the evidence of
all that it claims; "copied" and "derived" explain the name, the colour and the value of one claim and look
for the evidence of that claim. A token can be explained where it stands ("own") or at the place before, which
predicts it ("before"). Beside ULTra: rows of raw attention and of rollout (mean over heads, same tokens);
gradient x input of the tokens' log-probability; the words of the context that the claim repeats;
nearness; and chance.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_ultra.data import Facts
from captum_ultra.experiments import evidence_scores as scores
from captum_ultra.experiments.average_precision import average_precision, top_one
from captum_ultra.experiments.markdown import bold, markdown_table
from captum_ultra.models.loader import load_model

__all__ = ["Cell", "find_evidence", "markdown"]

QUESTIONS = ("summary", "copied", "derived")
LATENT = tuple(
    f"{name}, {place}" for name in ("ULTra_S", "ULTra_E", "raw attention", "rollout") for place in ("own", "before")
)
OTHERS = ("gradient x input", "exact match", "nearness", "chance")


@dataclass(frozen=True)
class Cell:
    """Mean and standard error over documents of the two measures; errors are NaN for one document."""

    average_precision: float
    average_precision_error: float
    top_one: float
    top_one_error: float
    documents: int


Result = dict[str, dict[str, dict[int, Cell]]]


def find_evidence(
    model: nn.Module, tokenizer: Any, documents: Facts, *, seed: int = 0, progress: bool = False
) -> Result:
    """Measure every method at every layer.

    Args:
        model: a causal language model of transformers.
        tokenizer: its tokenizer, which keeps the words of the language whole.
        documents: held-out documents.
        seed: of the chance ranking.
        progress: show a progress bar.

    Returns:
        ``result[question][method][layer]``; methods without a layer are at layer 0.

    Raises:
        ValueError: if the tokenizer splits words.

    Example:
        >>> from captum_ultra.models.llama import facts_llama, facts_tokenizer
        >>> result = find_evidence(facts_llama(), facts_tokenizer(), Facts(2))
        >>> sorted(result["summary"]["ULTra_S, own"]), sorted(result["summary"]["chance"])
        ([1, 2, 3, 4], [0])
    """
    generator = torch.Generator().manual_seed(seed)
    found: dict[tuple[str, str, int], list[tuple[float, float]]] = defaultdict(list)
    for index in tqdm(range(len(documents)), desc="documents", disable=not progress):
        encoded = scores.encode(tokenizer, documents[index])
        measured: dict[tuple[str, str, int], list[tuple[float, float]]] = defaultdict(list)
        for question, method, layer, ranking in all_scores(model, encoded, generator):
            pair = average_precision(ranking, question.evidence), top_one(ranking, question.evidence)
            measured[question.name, method, layer].append((float(pair[0]), float(pair[1])))
        # Two claims of a document are no two documents.
        for key, pairs in measured.items():
            precision, top = torch.tensor(pairs, dtype=torch.float64).mean(0).tolist()
            found[key].append((precision, top))
    result: Result = {question: defaultdict(dict) for question in QUESTIONS}
    for (name, method, layer), pairs in found.items():
        result[name][method][layer] = _cell(pairs)
    return {question: dict(methods) for question, methods in result.items()}


def all_scores(
    model: nn.Module, encoded: scores.Encoded, generator: torch.Generator
) -> Iterator[tuple[scores.Question, str, int, Tensor]]:
    """Every method's scores [C] of the context's tokens for every question, with its name and the layer."""
    summary = encoded.questions[0].tokens
    # The tokens and the place before the first, so that every token has one before it.
    places = [summary[0] - 1, *summary]
    for name, layer, rows in scores.latent_rows(model, encoded.ids, places):
        for question in encoded.questions:
            own = torch.tensor(question.tokens) - places[0]
            yield question, f"{name}, own", layer, rows[own].mean(0)[encoded.context]
            yield question, f"{name}, before", layer, rows[own - 1].mean(0)[encoded.context]
    for question in encoded.questions:
        gradient = scores.gradient_scores(model, encoded.ids, question.tokens)
        yield question, "gradient x input", 0, gradient[encoded.context]
        yield question, "exact match", 0, scores.match_scores(encoded.ids, question.content)[encoded.context]
        yield question, "nearness", 0, torch.arange(len(question.evidence)).float()
        yield question, "chance", 0, torch.rand(len(question.evidence), generator=generator)


def _cell(pairs: list[tuple[float, float]]) -> Cell:
    values = torch.tensor(pairs, dtype=torch.float64)
    (precision, top), count = values.mean(0).tolist(), len(pairs)
    errors = (values.std(0) / count**0.5).tolist() if count > 1 else [float("nan")] * 2
    return Cell(precision, errors[0], top, errors[1], count)


def markdown(result: Result, question: str, measure: str = "average_precision") -> str:
    """One table: a row for every method, a column for every layer, best layer of every method in bold.

    Args:
        result: what :func:`find_evidence` returned.
        question: "summary", "copied" or "derived".
        measure: "average_precision" or "top_one".

    Raises:
        KeyError: if there is no such question.
    """
    methods = result[question]
    layers = sorted({layer for cells in methods.values() for layer in cells if layer})
    rows = []
    for method in (*LATENT, *OTHERS):
        cells = {layer: vars(cell) for layer, cell in methods[method].items()}
        best = max(cells, key=lambda layer: cells[layer][measure])
        rows.append([method])
        for layer in (0, *layers):
            cell = cells.get(layer)
            text = f"{cell[measure]:.3f} ± {cell[f'{measure}_error']:.3f}" if cell else ""
            rows[-1].append(bold(text, layer == best and len(cells) > 1))
    return markdown_table(["method", "no layer", *(f"layer {layer}" for layer in layers)], rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", default="facts-llama", help="a name for load_model")
    parser.add_argument("--output", type=Path, help="write the numbers to this JSON file")
    args = parser.parse_args()
    loaded = load_model(args.model)
    result = find_evidence(
        loaded.model, loaded.tokenizer, Facts(args.documents, args.seed), seed=args.seed, progress=True
    )
    for question in QUESTIONS:
        for measure in ("average_precision", "top_one"):
            print(f"{question}: {measure.replace('_', ' ')}\n\n{markdown(result, question, measure)}\n")
    if args.output:
        numbers = {
            question: {method: {layer: asdict(cell) for layer, cell in row.items()} for method, row in methods.items()}
            for question, methods in result.items()
        }
        options = {name: str(value) for name, value in vars(args).items()}
        args.output.write_text(json.dumps({"options": options, "evidence": numbers}, indent=2) + "\n")


if __name__ == "__main__":
    main()
