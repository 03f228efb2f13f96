"""What the page may ask, and the answers: nothing of a request is used before it is checked."""

from __future__ import annotations

import logging
from base64 import b64encode
from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

import numpy as np

from captum_ultra.insights.explorer.pictures import data_url
from captum_ultra.insights.method_forms import Choice, Number, Parameter
from captum_ultra.insights.visualizer_errors import RequestError
from captum_ultra.insights.visualizer_pictures import at_most
from captum_ultra.insights.visualizer_results import Shown

if TYPE_CHECKING:
    from captum_ultra.insights.visualizer import TokenVisualizer

__all__ = ["configuration", "explained", "listed_samples"]

_LOG = logging.getLogger(__name__)
_PAGE = 24  # samples that are listed at once, at most
_THUMBNAIL = 96  # pixels
_SIDE = 512  # pixels of pictures and maps
_WORDS = 2000  # tokens of a text that are shown


def configuration(visualizer: TokenVisualizer) -> dict[str, Any]:
    """Everything that does not depend on a sample."""
    return {
        "name": visualizer.feature.name,
        "kind": visualizer.feature.kind,
        "models": [type(model).__name__ for model in visualizer.models],
        "classes": list(visualizer.classes),
        "methods": [
            {
                "name": form.name,
                "explains": form.explains,
                "parameters": {name: _described(each) for name, each in form.parameters.items()},
            }
            for form in visualizer.methods.values()
        ],
    }


def listed_samples(visualizer: TokenVisualizer, asked: Any) -> dict[str, Any]:
    """Samples from ``start`` on: a small picture or the first words, and the label; or that it cannot be read.

    Raises:
        RequestError: for a request of another form.
    """
    fields = _fields(asked, {"start": int, "count": int})
    start, count = fields["start"], fields["count"]
    if start < 0 or not 1 <= count <= _PAGE:
        raise RequestError(f"start={start}, count={count}: samples are listed from 0 on, at most {_PAGE} at once")
    end = min(visualizer.reach(start + count), start + count)
    return {
        "samples": [_listed_or_error(visualizer, index) for index in range(start, end)],
        "more": visualizer.samples.more or visualizer.reach(0) > end,
    }


def explained(visualizer: TokenVisualizer, asked: Any) -> dict[str, Any]:
    """The explanation of one sample.

    Raises:
        RequestError: for a request of another form, and for what the method refuses.
        UnsupportedModelError: for models that cannot be explained faithfully.
    """
    fields = _fields(asked, {"sample": int, "model": int, "method": str, "target": int | None, "arguments": dict})
    arguments = fields.pop("arguments")
    if set(arguments) & {"sample", "model", "method", "target"}:
        raise RequestError("arguments: those of the method are needed here")
    shown = visualizer.explain(**fields, **arguments)
    picture = visualizer.picture(fields["sample"])
    answer: dict[str, Any] = {
        "sample": fields["sample"],
        "label": _label(visualizer, fields["sample"]),
        "predictions": [
            {**vars(each), "score": each.score if isfinite(each.score) else None} for each in shown.predictions
        ],
        "target": shown.target,
        "milliseconds": round(shown.milliseconds, 1),
    }
    if visualizer.feature.kind == "text":
        return answer | {"words": picture[:_WORDS], **_of_text(shown)}
    return answer | {"picture": data_url(at_most(picture, _SIDE)), **_of_image(shown)}


def _of_image(shown: Shown) -> dict[str, Any]:
    """The map in bytes, what they mean, and where its token is."""
    values = at_most(shown.values, _SIDE)
    high = float(np.abs(values).max())
    signed = bool(values.min() < -0.01 * high)
    steps = 127.5 + 127.5 * values / (high or 1) if signed else 255 * values / (high or 1)
    patch = shown.token
    if shown.grid is not None and isinstance(patch, int):
        patch = divmod(shown.patches.index(patch), shown.grid[1]) if patch in shown.patches else None
    return {
        "map": b64encode(np.rint(steps).clip(0, 255).astype(np.uint8).tobytes()).decode("ascii"),
        "shape": values.shape,
        "high": high,
        "signed": signed,
        "grid": shown.grid,
        "patch": patch,
    }


def _of_text(shown: Shown) -> dict[str, Any]:
    values = shown.values[:_WORDS]
    high = float(np.abs(values).max())
    shares = values / (high or 1)
    token = shown.token if isinstance(shown.token, int) else None
    return {
        "values": [round(float(each), 4) for each in shares],
        "high": high,
        "signed": bool(values.min() < -0.01 * high),
        "token": token % len(shown.values) if token is not None else None,
    }


def _listed_or_error(visualizer: TokenVisualizer, index: int) -> dict[str, Any]:
    try:
        return _listed(visualizer, index)
    except Exception:  # of the user's dataset and transforms
        _LOG.exception("sample %d cannot be read", index)
        return {"index": index, "label": None, "error": "cannot be read; the log of the program says why"}


def _listed(visualizer: TokenVisualizer, index: int) -> dict[str, Any]:
    shown = visualizer.picture(index)
    entry: dict[str, Any] = {"index": index, "label": _label(visualizer, index)}
    if visualizer.feature.kind == "text":
        return entry | {"words": " ".join(shown[:12])[:80]}
    return entry | {"thumbnail": data_url(at_most(shown, _THUMBNAIL))}


def _label(visualizer: TokenVisualizer, index: int) -> str | None:
    number = visualizer.samples[index].label
    if number is None:
        return None
    return visualizer.classes[number] if 0 <= number < len(visualizer.classes) else str(number)


def _described(parameter: Parameter) -> dict[str, Any]:
    if isinstance(parameter, Number):
        return {"kind": "number", "value": parameter.value, "low": parameter.low, "high": parameter.high}
    if isinstance(parameter, Choice):
        return {"kind": "choice", "value": parameter.value, "options": list(parameter.options)}
    return {"kind": "token", "value": parameter.value}


def _fields(asked: Any, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request, no more and no fewer, each of its kind.

    Raises:
        RequestError: names the first that is wrong.
    """
    if not isinstance(asked, dict) or set(asked) != set(kinds):
        raise RequestError(f"an object with the fields {', '.join(kinds)} is needed")
    for name, kind in kinds.items():
        if isinstance(asked[name], bool) or not isinstance(asked[name], kind):
            raise RequestError(f"{name}: a value of another kind is needed, got {str(asked[name])[:40]!r}")
    return dict(asked)
