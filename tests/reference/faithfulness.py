"""Comprehensiveness and sufficiency written out: one text at a time, plain lists, no batch, float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["erasure_curve", "lost"]


def erasure_curve(
    logits: Callable[[Tensor], Tensor], ids: Sequence[int], sources: Sequence[int], targets: Sequence[int],
    order: Sequence[int], k: Sequence[float], metric: str, measure: str, replacement: int | None,
) -> list[float]:  # fmt: skip
    """m(x) minus m of the changed text, for every k; sources in ``order`` from the most relevant down.

    Args:
        logits: ids [1, L] -> logits [1, L, V].
        order: indices into ``sources``.
    """
    curve = []
    for percent in k:
        count = max(1, math.ceil(percent * len(sources) / 100))
        top = {sources[index] for index in order[:count]}
        gone = top if metric == "comprehensiveness" else set(sources) - top
        curve.append(lost(logits, ids, targets, gone, measure, replacement))
    return curve


def lost(
    logits: Callable[[Tensor], Tensor], ids: Sequence[int], targets: Sequence[int], gone: set[int], measure: str,
    replacement: int | None,
) -> float:  # fmt: skip
    """m(x) - m(x without the positions ``gone``)."""
    whole = list(enumerate(ids))
    if replacement is None:
        changed = [(place, token) for place, token in whole if place not in gone]
    else:
        changed = [(place, replacement if place in gone else token) for place, token in whole]
    return _measure(logits, whole, targets, measure) - _measure(logits, changed, targets, measure)


def _measure(
    logits: Callable[[Tensor], Tensor], text: list[tuple[int, int]], targets: Sequence[int], measure: str
) -> float:
    with torch.no_grad():
        rows = logits(torch.tensor([[token for _, token in text]]))[0].double()
    values = []
    for row, (place, token) in enumerate(text):
        if place in targets:
            log_probability = torch.log_softmax(rows[row - 1], dim=0)[token].item()
            values.append(math.exp(log_probability) if measure == "probability" else log_probability)
    return sum(values) / len(targets)
