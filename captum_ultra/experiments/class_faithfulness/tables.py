"""The tables of the study, in Markdown, and the same numbers as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from captum_ultra.attr.methods import METHODS
from captum_ultra.experiments.class_faithfulness.maps import LABELS
from captum_ultra.experiments.class_faithfulness.scores import PROBABILITY, REMOVAL, WHERE, WITHIN, Score
from captum_ultra.experiments.class_faithfulness.similarity import rank_correlation
from captum_ultra.experiments.class_faithfulness.study import Faithfulness
from captum_ultra.experiments.markdown import bold, markdown_table
from captum_ultra.intervals import Interval, bootstrap

__all__ = ["Numbers", "agreement_table", "difference_table", "listed", "measure", "plain", "score_table"]

Numbers = Mapping[str, Mapping[str, Interval]]
"""By the name of a map and the title of a score."""


def measure(study: Faithfulness, names: Sequence[str]) -> Numbers:
    """Every score of every map."""
    return {
        name: {score.title: score.measure(study, name) for score in (*WHERE, *REMOVAL, *PROBABILITY)} for name in names
    }


def score_table(numbers: Numbers, scores: Sequence[Score]) -> str:
    """One row a map, one column a score: mean and 95 % interval; the best of the methods in bold, controls apart."""
    best = {
        score.title: max(
            (name for name in numbers if name in METHODS and score.sign),
            key=lambda name, score=score: score.sign * numbers[name][score.title].mean,  # type: ignore[misc]
            default="",
        )
        for score in scores
    }
    rows = []
    for name, found in numbers.items():
        texts = [score.text(found[score.title]) for score in scores]
        is_best = [name == best[score.title] for score in scores]
        rows.append([LABELS[name], *map(bold, texts, is_best)])
    arrows = {1: " ↑", -1: " ↓", 0: ""}
    return markdown_table(["map", *(score.title + arrows[score.sign] for score in scores)], rows)


def agreement_table(numbers: Numbers, scores: Sequence[Score]) -> str:
    """Rank correlation between the orders into which two scores put the methods; controls do not count.

    Scores of which less is better are turned round: 1 means that two scores prefer the same methods.
    """
    methods = [name for name in numbers if name in METHODS]
    values = {
        score.title: score.sign * torch.tensor([numbers[name][score.title].mean for name in methods])
        for score in scores
    }
    rows = [
        [title, *(f"{rank_correlation(one, other):+.2f}" for other in values.values())] for title, one in values.items()
    ]
    return markdown_table(["", *values], rows)


def difference_table(study: Faithfulness, names: Sequence[str], other: str) -> str:
    """What every map has more than another one, within scenes: mean and 95 % interval.

    Args:
        study: that has run.
        names: of the rows.
        other: the map that is subtracted.
    """
    digits = {score.title: score.digits for score in (*WHERE, *REMOVAL, *PROBABILITY)}
    rows = []
    for name in names:
        found = {title: bootstrap(each(study, name) - each(study, other)) for title, each in WITHIN.items()}
        texts = [
            f"{each.mean:+.{digits[title]}f} [{each.low:+.{digits[title]}f}, {each.high:+.{digits[title]}f}]"
            for title, each in found.items()
        ]
        rows.append([LABELS[name], *texts])
    return markdown_table(["map", *WITHIN], rows)


def plain(numbers: Numbers) -> dict[str, dict[str, list[float | None]]]:
    """[mean, low, high] as JSON has it; NaN becomes None."""
    return {name: {title: listed(interval) for title, interval in found.items()} for name, found in numbers.items()}


def listed(interval: Interval) -> list[float | None]:
    """An interval as JSON has it."""
    return [each if each == each else None for each in (interval.mean, interval.low, interval.high)]
