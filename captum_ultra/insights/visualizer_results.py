"""What a visualizer computes for one sample: the classes that the model sees in it, and a map."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_ultra.attr.latent_token import LatentTokenAttribution
from captum_ultra.insights.method_forms import MethodForm
from captum_ultra.insights.visualizer_errors import RequestError, about_the_request
from captum_ultra.insights.visualizer_samples import Sample
from captum_ultra.relevance import explaining

__all__ = ["Prediction", "Shown", "compute", "predict"]

_TOP = 4  # classes that are listed, as in Captum Insights


@dataclass(frozen=True)
class Prediction:
    """A class that a model sees in a sample, and its score."""

    index: int
    label: str
    score: float


@dataclass(frozen=True, eq=False)
class Shown:
    """One explanation of one sample.

    Attributes:
        values: relevance, [H, W] of an image's pixels or [N] of a text's tokens.
        grid: (rows, columns) of the patches; None for a text.
        patches: the patches' tokens, row by row.
        predictions: the classes of the highest scores; empty for a model without classes.
        target: the explained class; None if a token is explained.
        token: the explained token; None if a class is explained.
        milliseconds: that the map took.
    """

    values: NDArray[np.float64]
    grid: tuple[int, int] | None
    patches: list[int]
    predictions: tuple[Prediction, ...]
    target: int | None
    token: int | tuple[int, int] | None
    milliseconds: float


def predict(
    model: nn.Module, sample: Sample, classes: Sequence[str], score_func: Callable[[Tensor], Tensor] | None
) -> tuple[Prediction, ...]:
    """The classes of the highest scores; none where the model's output is no score for each class.

    Scores that are no numbers (NaN) have no place in an order, so that these classes are left out.
    """
    if not classes:
        return ()
    with explaining(model, gradients=False):
        output = model(sample.inputs, *(sample.extra or ()))
    logits = getattr(output, "logits", output)
    scores = score_func(logits) if score_func is not None and isinstance(logits, Tensor) else logits
    if not isinstance(scores, Tensor) or scores.shape != (1, len(classes)):
        return ()
    ordered = scores[0].float()
    unknown = ordered.isnan()
    best = ordered.masked_fill(unknown, -torch.inf).topk(min(_TOP, len(classes) - int(unknown.sum())))
    pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
    return tuple(Prediction(index, classes[index], score) for index, score in pairs)


def compute(
    model: nn.Module, sample: Sample, form: MethodForm, arguments: Mapping[str, Any], target: int | None,
    predictions: tuple[Prediction, ...],
) -> Shown:  # fmt: skip
    """Explain one sample.

    Args:
        model: the model.
        sample: the sample.
        form: of the method.
        arguments: of the method, as the form parses them.
        target: the class to explain; the predicted one when None. Ignored by methods that explain a token.
        predictions: of :func:`predict`.

    Raises:
        RequestError: for arguments that the method refuses, and a map with values that are no numbers.
        UnsupportedModelError: for models that cannot be explained faithfully.
    """
    chosen = dict(arguments)
    of_class = form.explains == "class"
    if of_class:
        chosen["target"] = predictions[0].index if target is None and predictions else target
    inputs, start = sample.inputs, perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the map is zero", UserWarning)  # the page shows that it is
        with about_the_request():
            found = form.create(model).attribute(inputs, additional_forward_args=sample.extra, **chosen)
    elapsed = 1e3 * (perf_counter() - start)
    if not found.isfinite().all():
        raise RequestError(
            f"the map of {form.name} has values that are no numbers: the model's scores or gradients overflow, or its "
            "weights are damaged; run it in float32, and look at its output"
        )
    layout = LatentTokenAttribution(model).token_layout(inputs, sample.extra)
    return Shown(
        values=_flat(found),
        grid=None if layout.grid is None else (layout.grid[0], layout.grid[1]),
        patches=layout.patches,
        predictions=predictions,
        target=chosen["target"] if of_class else None,
        token=None if of_class else arguments["token"],
        milliseconds=elapsed,
    )


def _flat(found: Tensor) -> NDArray[np.float64]:
    """A map [1, C, H, W] as [H, W], rows [1, N] or [1, N, d] as [N]."""
    values = found.detach()[0].double().cpu()
    values = values.sum(0) if values.dim() == 3 else values
    return np.asarray(values.sum(-1) if found.dim() == 3 else values)
