"""Pixels removed in the order of a map: what is kept of one image, and what all images give together."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ultra.perturbation.class_result import ClassPerturbationResult
from captum_ultra.perturbation.class_test import REMOVAL_STEPS

__all__ = ["ORDERS", "STEPS", "flags_of", "of_flags", "of_probabilities", "probabilities_of"]

ORDERS = ("negative", "positive")
"""The least important pixels first, and the most important ones."""

STEPS = REMOVAL_STEPS
_DIGITS = 6  # of ln p: as exact as float32


def flags_of(result: ClassPerturbationResult) -> dict[str, str]:
    """By order, whether the label wins at every step of one image: a digit a step, 1 where it does."""
    return {
        order: "".join(str(int(flag)) for flag in result.values("accuracy", order)[0].tolist())
        for order in result.orders
    }


def of_flags(images: Sequence[dict[str, str]]) -> ClassPerturbationResult:
    """The accuracy of all images, out of the flags of each; nothing is known of probabilities.

    Example:
        >>> found = of_flags([{"negative": "111111111", "positive": "100000000"}])
        >>> round(found.score("accuracy_auc", "negative").mean, 6)
        80.0
    """
    right = torch.tensor([[[int(digit) for digit in each[order]] for order in ORDERS] for each in images])
    ones = torch.ones(len(images), dtype=torch.long)  # the class "right"
    return ClassPerturbationResult(STEPS, ORDERS, right, torch.zeros(right.shape), ones, ones * 0.0, ones, ones)


def probabilities_of(result: ClassPerturbationResult, order: str) -> dict[str, float | list[float]]:
    """ln p of the explained class of one image, and ln p_k at every step."""
    changed = result.log_probability[0, result.orders.index(order)]
    return {
        "log p": round(float(result.clean_log_probability[0]), _DIGITS),
        "log p_k": [round(each, _DIGITS) for each in changed.tolist()],
    }


def of_probabilities(images: Sequence[dict[str, float | list[float]]], order: str) -> ClassPerturbationResult:
    """The probabilities of all images, out of those of each; nothing is known of predictions.

    Example:
        >>> found = of_probabilities([{"log p": 0.0, "log p_k": [-1.0] * 9}], "positive")
        >>> found.score("log_odds", "positive").mean
        -1.0
    """
    clean, changed = (_doubles([each[key] for each in images]) for key in ("log p", "log p_k"))
    unknown = torch.zeros(len(images), dtype=torch.long)
    predicted = torch.zeros(len(images), 1, len(STEPS), dtype=torch.long)
    return ClassPerturbationResult(STEPS, (order,), predicted, changed[:, None], unknown, clean, unknown)


def _doubles(values: Sequence[object]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)
