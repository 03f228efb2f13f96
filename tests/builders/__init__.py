"""Tiny models of real library classes with random weights; ``CASES`` lists all of them."""

from tests.builders import open_clip_models, timm_models, torch_models, transformers_models
from tests.builders.case import DEPTH, Case, stir

CASES: list[Case] = [
    *timm_models.CASES,
    *transformers_models.CASES,
    *open_clip_models.CASES,
    *torch_models.CASES,
]

__all__ = ["CASES", "DEPTH", "Case", "case_named", "stir"]


def case_named(name: str) -> Case:
    """The case of this name."""
    return next(case for case in CASES if case.name == name)
