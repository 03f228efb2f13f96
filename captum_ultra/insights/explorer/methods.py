"""What a page can show of a model: methods by name, attributions, and maps that are there already."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_ultra.adapters import Blocks
from captum_ultra.attr.attribution import DEFAULT_SCORE, TokenAttribution
from captum_ultra.attr.methods import find_method
from captum_ultra.attr.methods.titles import method_title
from captum_ultra.attr.scores import Score, as_score

__all__ = ["DEFAULT_METHODS", "Method", "Methods", "named_methods", "rows_of_methods"]

Method = Any  # (name, score), an attribution object or its class, or maps by layer
Methods = Sequence[str | tuple[str, Score]] | Mapping[str, Method]
DEFAULT_METHODS = ("sum", "energy")


def named_methods(methods: Methods) -> dict[str, Method]:
    """Methods by the label that the page shows.

    Args:
        methods: names of methods, of the scores "sum" and "energy" of ULTra, or pairs of a method's name and a score;
            or labels with, each, one of these, an attribution object with Captum's ``attribute`` (or its class, made of
            the model), or maps by layer.

    Raises:
        TypeError: for anything else.
        ValueError: for an empty list, an unknown name, or the same label twice.

    Example:
        >>> named_methods(["sum", ("residual", "energy"), "rollout"])
        {'ULTra, sum score': ('ultra', 'sum'), 'residual LRP, energy score': ('residual', 'energy'), 'rollout': ...}
    """
    if isinstance(methods, str) or not isinstance(methods, Sequence | Mapping):
        raise TypeError(f"methods must be a list of names, or a dict from label to method, got {methods!r}")
    if isinstance(methods, Mapping):
        named = {str(label): _as_method(method) for label, method in methods.items()}
    else:
        pairs = [_as_method(each) for each in methods]
        if not all(isinstance(each, tuple) for each in pairs):
            raise TypeError("methods: a list has names; give objects and maps with their labels, in a dict")
        named = {method_title(*each): each for each in pairs}
    if not named or len(named) != len(methods):
        raise ValueError(f"methods: at least one is needed, and each of them once; got {methods!r}")
    return named


def _as_method(method: Any) -> Method:
    """A method as :func:`named_methods` gives it: a name alone becomes (name, score).

    Raises:
        TypeError, ValueError: as there.
    """
    if isinstance(method, Mapping):
        if not method or not all(isinstance(each, Tensor) for each in method.values()):
            raise TypeError(f"methods: maps are given as a dict from layer to a tensor, got {method!r}")
        return method
    if hasattr(method, "attribute"):
        return method
    if isinstance(method, str) and method not in DEFAULT_METHODS:
        method = (method, DEFAULT_SCORE)
    name, score = method if isinstance(method, tuple) else ("ultra", method)
    as_score(score)
    try:
        find_method(name)
    except ValueError as error:
        raise ValueError(f"{error}; 'sum' and 'energy' are ULTra with that score") from None
    return name, score


def rows_of_methods(
    methods: Mapping[str, Method], model: nn.Module, blocks: Blocks | None, inputs: Tensor, layers: Sequence[int],
    shape: tuple[int, int], **options: Any,
) -> dict[tuple[str, int], NDArray[np.float32]]:  # fmt: skip
    """For each (label, layer) rows [T, M] of one sample: those that are there, or those that a method makes.

    Args:
        methods: by label, as :func:`named_methods` gives them.
        model: of the sample.
        blocks: as in :class:`captum_ultra.LatentTokenAttribution`.
        inputs: the sample, as the model takes it, [1, ...].
        layers: numbers of blocks passed.
        shape: (T, M).
        options: of ``attribute``, beside layer and score.

    Raises:
        ValueError: for maps that are missing, of another shape, or not finite.
        TypeError: for a text, an attribution object that is not of this package.
    """
    rows: dict[tuple[str, int], NDArray[np.float32]] = {}
    for label, method in methods.items():
        for layer, found in _by_layer(method, model, blocks, inputs, layers, options).items():
            rows[label, layer] = found.detach().float().cpu().numpy()
            if found.shape != shape or not np.isfinite(rows[label, layer]).all():
                raise ValueError(
                    f"methods[{label!r}], layer {layer}: finite maps of the shape {list(shape)} are needed, a row for "
                    f"each explained token; got {list(found.shape)}"
                )
    return rows


def _by_layer(
    method: Method, model: nn.Module, blocks: Blocks | None, inputs: Tensor, layers: Sequence[int],
    options: Mapping[str, Any],
) -> dict[int, Tensor]:  # fmt: skip
    if isinstance(method, Mapping):
        missing = [layer for layer in layers if layer not in method]
        if missing:
            raise ValueError(f"methods: maps of the layers {missing} are missing; there are those of {sorted(method)}")
        return {layer: method[layer] for layer in layers}
    if isinstance(method, tuple):
        name, score = method
        method, options = find_method(name)(model, blocks), {**options, "score": score}
    elif isinstance(method, type):
        method = method(model)
    if not isinstance(method, TokenAttribution):
        if inputs.dim() != 4:
            raise TypeError(f"methods: {type(method).__name__} explains images; of a text, give its maps by layer")
        token, output = options["token"], options["output"]
        return {layer: method.attribute(inputs, token=token, layer=layer, output=output)[0] for layer in layers}
    with warnings.catch_warnings():
        # The page shows that a map is empty, as those of the embedding are.
        warnings.filterwarnings("ignore", message="the map is zero")
        found = method.attribute(inputs, layer=list(layers), **options)
    return {layer: rows[0] for layer, rows in zip(layers, found, strict=True)}
