"""What a page can show of a model: scores of latents, other attributions, and maps that are there already."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from captum_ultra.attr.scores import as_score

__all__ = ["DEFAULT_METHODS", "Method", "Methods", "named_methods"]

Method = Any
Methods = Sequence[str] | Mapping[str, Method]
DEFAULT_METHODS = ("sum", "energy")

_LABELS = {"sum": "ULTra, sum score", "energy": "ULTra, energy score"}


def named_methods(methods: Methods) -> dict[str, Method]:
    """Methods by the label that the page shows.

    Args:
        methods: names of scores, or labels with, each, a score, an attribution object (or its class, made of the
            model) with Captum's ``attribute``, or maps by layer.

    Raises:
        TypeError: for anything else.
        ValueError: for an empty list, an unknown score, or the same label twice.

    Example:
        >>> named_methods(["sum"])
        {'ULTra, sum score': 'sum'}
    """
    if isinstance(methods, str) or not isinstance(methods, Sequence | Mapping):
        raise TypeError(f"methods must be a list of scores, or a dict from label to method, got {methods!r}")
    if isinstance(methods, Mapping):
        named = {str(label): method for label, method in methods.items()}
    else:
        named = {_LABELS.get(each, str(each)): each for each in methods}
    if not named or len(named) != len(methods):
        raise ValueError(f"methods: at least one is needed, and each of them once; got {methods!r}")
    for label, method in named.items():
        _check(label, method)
    return named


def _check(label: str, method: Method) -> None:
    if isinstance(method, Mapping):
        if not method or not all(isinstance(each, Tensor) for each in method.values()):
            raise TypeError(f"methods[{label!r}]: maps are given as a dict from layer to a tensor")
    elif not hasattr(method, "attribute"):
        as_score(method)
