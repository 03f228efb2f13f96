"""What is compared: a method with its choices, a score, and how its rows are read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

from captum_ultra.attr.methods.conservative_lrp import READINGS

__all__ = ["MIXED", "Variant", "scene_variants", "text_variants"]

_LETTER = {"sum": "S", "energy": "E"}


@dataclass(frozen=True)
class Variant:
    """One way to explain a latent token.

    Attributes:
        family: what tables call the method, the choices left out.
        method: a name of :data:`captum_ultra.attr.methods.METHODS`.
        score: "sum" or "energy"; of methods without gradients it plays no part, and is None.
        choices: of the method, as pairs; the reading is none of them.
        reading: "signed" as the rows come, their "positive" part or "absolute" value, or the "norm" of linear methods.
    """

    family: str
    method: str
    score: str | None = None
    choices: tuple[tuple[str, Any], ...] = ()
    reading: str = "signed"

    @property
    def name(self) -> str:
        """All of it in a few words, unlike every other's; constant attention and the energy go without saying.

        Example:
            >>> Variant("residual", "residual_lrp", "sum", (("gamma", 1.0), ("attention", "constant")), "norm").name
            'residual, gamma=1, norm, S'
        """
        told = [f"{key}={value:g}" if isinstance(value, float) else f"{key}={value}" for key, value in self.choices]
        parts = [self.family, *(each for each in told if each != "attention=constant")]
        if self.reading != "signed" or self.choices:
            parts.append(self.reading)
        if self.score == "sum" and self.family != "ULTra_S":
            parts.append("S")
        return ", ".join(parts)


MIXED = {
    "ULTra_E + conservative": ("ULTra_E", "conservative, gates=constant, absolute"),
    "ULTra_E + residual": ("ULTra_E", "residual, gamma=3, gates=constant, absolute"),
}
"""Means of the shares of two rows: name -> names of the two variants."""


def text_variants() -> list[Variant]:
    """Everything that is tried on texts.

    Example:
        >>> names = [each.name for each in text_variants()]
        >>> names[:4], len(names) == len(set(names))
        (['raw attention', 'rollout', 'ULTra_S', 'ULTra_E'], True)
    """
    return [*_attention_methods(), *_linear_methods(("gradient", "constant", "halves"), ("constant", "halves"))]


def scene_variants() -> list[Variant]:
    """Everything that is tried on scenes, where no gate is a product of its own and some methods more apply."""
    propagated = [
        Variant("transformer attribution", "transformer_attribution", "energy"),
        Variant("partial LRP", "partial_lrp", "energy"),
        Variant("LRP", "lrp", "energy"),
        Variant("LRP", "lrp", "energy", reading="absolute"),
    ]
    return [*_attention_methods(), *propagated, *_linear_methods(("gradient", "constant"), ("constant",))]


def _attention_methods() -> list[Variant]:
    found = [Variant("raw attention", "raw_attention"), Variant("rollout", "rollout")]
    scores = ("sum", "energy")
    found += [Variant(f"ULTra_{_LETTER[score]}", "gae", score) for score in scores]
    for family, method in (
        ("Grad-CAM", "grad_cam"),
        ("AttCAT", "attcat"),
        ("LeGrad", "legrad"),
        ("TokenTM", "token_tm"),
    ):
        readings = ("signed", "absolute") if method == "attcat" else ("signed",)
        found += [Variant(family, method, score, reading=each) for score in scores for each in readings]
    return found


def _linear_methods(gates: tuple[str, ...], residual_gates: tuple[str, ...]) -> Iterator[Variant]:
    rules: list[tuple[str, str, dict[str, Any]]] = [
        ("conservative", "conservative_lrp", {"gates": gate}) for gate in gates
    ]
    rules += [
        ("residual", "residual_lrp", {"gamma": gamma, "attention": attention, "gates": gate})
        for gamma, attention, gate in product((3.0, 1.0), ("constant", "halves"), residual_gates)
    ]
    first: set[str] = set()
    for family, method, choices in rules:
        # The sum is tried with the first choices of each, which are the library's own.
        for score in ("energy",) if family in first else ("energy", "sum"):
            for reading in READINGS:
                yield Variant(family, method, score, tuple(choices.items()), reading)
        first.add(family)
