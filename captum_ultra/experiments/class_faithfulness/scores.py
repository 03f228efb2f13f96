"""The scores of the study: what each is called, how it is measured, and which way is better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from captum_ultra.experiments.class_faithfulness.study import Faithfulness
from captum_ultra.intervals import Interval, bootstrap, bootstrap_of

__all__ = ["PROBABILITY", "REMOVAL", "WHERE", "WITHIN", "Score"]


@dataclass(frozen=True)
class Score:
    """One number of every map.

    Attributes:
        title: of the column.
        measure: from the study and the name of a map to the mean over scenes with its interval.
        sign: 1 where more is better, -1 where less is, 0 where neither is.
        digits: after the point.
    """

    title: str
    measure: Callable[[Faithfulness, str], Interval]
    sign: int = 1
    digits: int = 1

    def text(self, interval: Interval) -> str:
        """Mean and interval.

        Example:
            >>> Score("mIoU", lambda study, name: Interval(0, 0, 0)).text(Interval(61.24, 60.0, 62.5))
            '61.2 [60.0, 62.5]'
        """
        mean, low, high = (f"{each:.{self.digits}f}" for each in (interval.mean, interval.low, interval.high))
        return f"{mean} [{low}, {high}]"


def _each(key: str, study: Faithfulness, name: str) -> Tensor:
    return torch.tensor([found[key] for found in study.found(name)], dtype=torch.float64)


def _mean(key: str, scale: float, study: Faithfulness, name: str) -> Interval:
    return bootstrap(scale * _each(key, study, name))


def _median(key: str, scale: float, study: Faithfulness, name: str) -> Interval:
    """The median, as a first call takes long, and the quartiles in place of an interval."""
    values = scale * _each(key, study, name)
    low, middle, high = torch.quantile(values, torch.tensor([0.25, 0.5, 0.75], dtype=values.dtype)).tolist()
    return Interval(middle, low, high)


def _of_pixels(statistic: Callable[[Tensor], Tensor], study: Faithfulness, name: str) -> Interval:
    """A statistic of the pixels of all scenes together, [R, 2, 2] by truth and map."""
    counts = torch.tensor([found["pixels"] for found in study.found(name)], dtype=torch.float64)
    mean, low, high = bootstrap_of(counts, statistic)
    return Interval(100 * float(mean), 100 * float(low), 100 * float(high))


def _pixel_accuracy(counts: Tensor) -> Tensor:
    return counts.diagonal(dim1=1, dim2=2).sum(1) / counts.sum((1, 2))


def _miou(counts: Tensor) -> Tensor:
    hits = counts.diagonal(dim1=1, dim2=2)
    return (hits / (counts.sum(1) + counts.sum(2) - hits)).mean(1)


def _removed(score: str, order: str, explained: str, study: Faithfulness, name: str) -> Interval:
    return study.removal(name, explained).score(score, order)


def _gap(explained: str, study: Faithfulness, name: str) -> Interval:
    return study.removal(name, explained).difference("accuracy_auc")


def _ends(order: str, study: Faithfulness, name: str) -> Interval:
    return study.ends(name).score("probability_auc", order)


WHERE = (
    Score("pixel accuracy", partial(_of_pixels, _pixel_accuracy)),
    Score("mIoU", partial(_of_pixels, _miou)),
    Score("mAP", partial(_mean, "average_precision", 100.0)),
    Score("likeness to edges", partial(_mean, "edges", 1.0), sign=0, digits=2),
    Score("ms a map", partial(_median, "seconds", 1000.0), sign=0, digits=0),
)
"""Where the maps lie; the median time of one, with its quartiles."""

REMOVAL = (
    Score("negative", partial(_removed, "accuracy_auc", "negative", "predicted")),
    Score("positive", partial(_removed, "accuracy_auc", "positive", "predicted"), sign=-1),
    Score("negative minus positive", partial(_gap, "predicted")),
    Score("negative, true class", partial(_removed, "accuracy_auc", "negative", "true")),
    Score("positive, true class", partial(_removed, "accuracy_auc", "positive", "true"), sign=-1),
)
"""Areas under the accuracy, times 100, at most 80, as steps go from 0.1 to 0.9."""

PROBABILITY = (
    Score("AOPC", partial(_removed, "aopc", "positive", "predicted"), digits=3),
    Score("log-odds", partial(_removed, "log_odds", "positive", "predicted"), sign=-1, digits=2),
    Score("deletion", partial(_ends, "deletion"), sign=-1, digits=3),
    Score("insertion", partial(_ends, "insertion"), digits=3),
)
"""What the probability of the predicted class does."""

WITHIN: dict[str, Callable[[Faithfulness, str], Tensor]] = {
    "mAP": lambda study, name: 100 * _each("average_precision", study, name),
    "negative": lambda study, name: study.removal(name).per_image("accuracy_auc", "negative"),
    "positive": lambda study, name: study.removal(name).per_image("accuracy_auc", "positive"),
    "AOPC": lambda study, name: study.removal(name).per_image("aopc", "positive"),
}
"""Scores that every scene has by itself, float64 [scenes], so that two maps can be compared within scenes."""
