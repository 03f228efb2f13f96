"""One model tried: built, run, explained, and held against what it really does."""

from __future__ import annotations

import linecache
import re
import signal
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra import LatentTokenAttribution, UnsupportedModelError
from tools.families.case import Case
from tools.families.padding import disagreement
from tools.families.pictures import wrong_layout
from tools.families.reference import LATENT, Recording, Strange, explicit_row, record
from tools.families.structure import irregularity

TOLERANCE = {torch.float64: 1e-4, torch.float32: 2e-3}
"""Of exact rows, relative to their largest entry: softmaxes of many models are in float32 whatever the model is in."""


@dataclass(frozen=True)
class Line:
    """A line of the table.

    Attributes:
        name: of the family.
        group: its heading.
        verdict: "exact", "refused", "WRONG", "error" or "not built".
        difference: the largest, relative to the row's largest entry; None where rows were not compared.
        message: of the refusal or error; what is wrong.
        expected: what it should have been, "" where it is not known.
        seconds: it took.
    """

    name: str
    group: str
    verdict: str
    difference: float | None = None
    message: str = ""
    expected: str = ""
    seconds: float = 0.0


class _Wrong(Exception):
    def __init__(self, message: str, difference: float | None = None) -> None:
        super().__init__(message)
        self.difference = difference


def judge(case: Case, limit: int = 60) -> Line:
    """Try one model; nothing it does escapes but an interrupt."""
    start = time.process_time()
    with _limited(limit), warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        verdict, difference, message = _verdict(case, told)
    seconds = time.process_time() - start
    return Line(case.name, case.group, verdict, difference, message, case.expected, seconds)


def _verdict(case: Case, told: list[Any]) -> tuple[str, float | None, str]:
    try:
        model, inputs = case.model(), case.inputs()
        extra = case.extra()
    except BaseException as error:
        return "not built", None, _first_sentence(error)
    broken = _broken(case, model, inputs, extra)
    if broken:
        return "not built", None, f"does not run by itself: {broken}"
    found = _attempt(case, model, inputs, extra, torch.float64, told)
    if found[0] == "error" and "took more than" not in found[2]:
        return _attempt(case, model, inputs, extra, torch.float32, told)
    return found


def _attempt(
    case: Case, model: nn.Module, inputs: Tensor, extra: Any, dtype: torch.dtype, told: list[Any]
) -> tuple[str, float | None, str]:
    try:
        tried = _Tried(case, model.to(dtype), _cast(inputs, dtype), _cast(extra, dtype), dtype)
        difference, note = tried.compare()
        return "exact", difference, note or _said(told)
    except UnsupportedModelError as error:
        return "refused", None, _first_sentence(error)
    except _Part as error:
        said = _said(told)
        return ("exact", error.difference, said) if "attention" in said else ("WRONG", error.difference, str(error))
    except _Wrong as error:
        return "WRONG", error.difference, str(error)
    except (Exception, _Late) as error:
        place, raised = _origin(error)
        if raised and place.startswith("captum_ultra.") and isinstance(error, ValueError | TypeError):
            return "refused", None, _first_sentence(error)
        return "error", None, f"{type(error).__name__} in {place}: {_first_sentence(error)}"


def _broken(case: Case, model: nn.Module, inputs: Tensor, extra: Any) -> str:
    """Why a model does not run without the library; empty if it does."""
    try:
        with torch.no_grad():
            case.run(model, _cast(inputs, torch.float32), _cast(extra, torch.float32))
    except (Exception, _Late) as error:
        return f"{type(error).__name__.strip('_')}: {_first_sentence(error)}"
    return ""


def _cast(value: Any, dtype: torch.dtype) -> Any:
    """Floats among inputs and further arguments in the precision that the model runs in."""
    if isinstance(value, Tensor):
        return value.to(dtype) if value.is_floating_point() else value
    if isinstance(value, dict):
        return {name: _cast(each, dtype) for name, each in value.items()}
    return tuple(_cast(each, dtype) for each in value) if isinstance(value, tuple) else value


def _origin(error: BaseException) -> tuple[str, bool]:
    """The module that an error comes from, and whether a ``raise`` stands there."""
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    if frame is None:
        return "?", False
    line = linecache.getline(frame.tb_frame.f_code.co_filename, frame.tb_lineno)
    return frame.tb_frame.f_globals.get("__name__", "?"), line.strip().startswith("raise")


class _Part(_Wrong):
    """Only a part of the model is explained: to be said in a warning."""


class _Tried:
    """A model, its input, and the library's view of both."""

    def __init__(self, case: Case, model: nn.Module, inputs: Tensor, extra: Any, dtype: torch.dtype) -> None:
        self.case, self.model, self.inputs, self.extra, self.dtype = case, model, inputs, extra, dtype
        self.attribution = LatentTokenAttribution(model, blocks=case.blocks_of(model))

    def compare(self) -> tuple[float, str]:
        """The largest difference, and a note.

        Raises:
            _Wrong: says what.
        """
        layout = self.attribution.token_layout(self.inputs, self.extra)
        view = self.attribution._views(self.inputs, self.extra)
        self.tokens = layout.tokens
        tokens, depth = sorted({0, layout.tokens // 2, layout.tokens - 1}), len(view.blocks)
        layers = sorted({1, depth})
        rows = {layer: self._explain(self.inputs, self.extra, tokens, layer) for layer in layers}
        pixels = self.inputs.clone().requires_grad_() if self.inputs.is_floating_point() else self.inputs
        recording = self._record(pixels, self.extra, view)
        self._check_run(recording, pixels, view, layout)
        worst = max(self._difference(recording, rows[layer], tokens, layer) for layer in layers)
        if not worst <= TOLERANCE[self.dtype]:
            raise _Wrong("rows differ from the explicit loop", worst)
        run = partial(view.call, view.model, self.inputs, self.extra)
        found = irregularity(run, view.model, view.blocks, recording.axis)
        if found:
            raise _Wrong(found, worst)
        worst = max(worst, self._under_padding(depth))
        self._check_part(recording, worst)
        if self.inputs.dim() == 4 and layout.grid is None:
            return worst, "rows only, no grid"
        return worst, "tokens mix before the first block" if self._mixed_before(view, recording.latents[0]) else ""

    def _check_part(self, recording: Recording, worst: float) -> None:
        before = recording.calls[: recording.marks[0]]
        if any(_reaches(each.probabilities, recording.latents[0]) for each in before):
            raise _Part("attention before the first block that is followed", worst)
        behind = [each for each in recording.calls[recording.marks[-1] :] if _among_tokens(each.probabilities)]
        if behind and self.case.blocks is None:
            raise _Part(f"{len(behind)} attentions behind the last block that is followed", worst)

    def _explain(self, inputs: Tensor, extra: Any, tokens: list[int], layer: int) -> Tensor:
        return self.attribution.attribute(
            inputs, token=tokens, layer=layer, score=LATENT, self_token="zero", output="tokens",
            additional_forward_args=extra,
        ).double()  # fmt: skip

    def _record(self, inputs: Tensor, extra: Any, view: Any) -> Recording:
        return record(lambda: view.call(view.model, inputs, extra), view.model, view.blocks, self.tokens)

    def _check_run(self, recording: Recording, pixels: Tensor, view: Any, layout: Any) -> None:
        again = self._record(self.inputs, self.extra, view)
        if not torch.allclose(again.latents[-1], recording.latents[-1], rtol=1e-4, atol=1e-6):
            raise _Wrong("two equal runs of the model differ")
        if self.inputs.dim() == 4:
            found = wrong_layout(recording.latents[0], pixels, layout)
            if found:
                raise _Wrong(f"grid: {found}")

    def _mixed_before(self, view: Any, stream: Tensor) -> bool:
        """Whether another id changes more than one token of the stream."""
        if self.inputs.is_floating_point() or self.inputs.shape[1] != stream.shape[1]:
            return False
        place = self.inputs.shape[1] // 2
        other = self.inputs.clone()
        other[:, place] = (other[:, place] + 7) % 40 + 5
        changed = self._record(other, self.extra, view).latents[0]
        moved = (changed - stream).abs().amax((0, 2)) > 1e-6
        moved[place] = False
        return bool(moved.any())

    def _difference(self, recording: Recording, rows: Tensor, tokens: list[int], layer: int) -> float:
        worst = 0.0
        for place, token in enumerate(tokens):
            try:
                expected = explicit_row(recording, token, layer)
            except Strange as error:
                raise _Wrong(str(error)) from error
            if rows[:, place].shape != expected.shape:
                raise _Wrong(f"rows over {rows.shape[-1]} tokens where the stream has {expected.shape[-1]}")
            largest = expected.amax(1, keepdim=True)
            scale = torch.where(largest > 1e-12, largest, torch.ones_like(largest))
            worst = max(worst, ((rows[:, place] - expected).abs() / scale).max().item())
        return worst

    def _under_padding(self, depth: int) -> float:
        if not self.case.padded or self.extra is not None:
            return 0.0
        with torch.no_grad():
            difference, side = disagreement(self._explain, self._latents, self.model, self.inputs, depth)
        if difference > TOLERANCE[self.dtype]:
            raise _Wrong(f"padding on the {side}: rows differ from those of the text alone", difference)
        return difference

    def _latents(self, ids: Tensor, extra: Any) -> Tensor:
        view = self.attribution._views(ids, extra)
        run = record(lambda: view.call(view.model, ids, extra), view.model, view.blocks, ids.shape[1])
        return run.latents[-1].detach()


def _reaches(maps: Tensor, stream: Tensor) -> bool:
    if not maps.requires_grad:
        return True  # the model ran it without a graph, in which nothing can be asked
    if not stream.requires_grad:
        return False
    (gradient,) = torch.autograd.grad(stream.square().sum(), maps, retain_graph=True, allow_unused=True)
    return gradient is not None and bool(gradient.any())


def _among_tokens(maps: Tensor) -> bool:
    return maps.shape[-1] == maps.shape[-2] > 1


def _said(told: list[Any]) -> str:
    """The first warning of the library itself."""
    own = [each.message for each in told if "captum_ultra" in str(each.filename) or "followed" in str(each.message)]
    return f"warned: {_first_sentence(own[0])}" if own else ""


def _first_sentence(error: Any) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    sentence = re.split(r"(?<=[.;]) (?=\S)|: (?=explain|call|pass)", text)[0].rstrip(".;")
    return sentence if len(sentence) <= 240 else sentence[:239] + "…"


class _Late(BaseException):
    pass


@contextmanager
def _limited(seconds: int) -> Iterator[None]:
    def late(*_: Any) -> None:
        raise _Late(f"took more than {seconds} s of the processor")

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)  # of the processor: a busy machine fails no model
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
