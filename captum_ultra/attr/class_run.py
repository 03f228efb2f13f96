"""One traced run of a classifier: the class that is explained, and the tokens that it is read from."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.adapters import TokenLayout, TransformerView
from captum_ultra.adapters.class_scores import Head, class_scores
from captum_ultra.adapters.view import split_arguments
from captum_ultra.attr.run import follow
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance import Course, Trace

__all__ = ["CLASS_SCORES", "ClassRun", "choose_classes", "first_block", "run_classified"]

CLASS_SCORES = ("logit", "probability", "log_probability")


@dataclass(frozen=True)
class ClassRun:
    """A trace of a whole run, and what it says about classes.

    Attributes:
        trace: which kept the last layer.
        layout: of the tokens.
        view: of the model.
        inputs: that were run.
        extra: Captum's ``additional_forward_args``.
        logits: [B, K]; None for a model without a head, explained by a method that needs no class.
        classes: [B], the explained class of every sample; None where ``logits`` is.
        kind: the explained scalar of the class: "logit", "probability" or "log_probability".
        tokens: where the class is read at the last layer, or None: from where the logits depend on.
    """

    trace: Trace
    layout: TokenLayout
    view: TransformerView
    inputs: Tensor
    extra: Any
    logits: Tensor | None
    classes: Tensor | None
    kind: str
    tokens: Sequence[int] | None

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return len(self.view.blocks)

    def again(self) -> Any:
        """What the model returns for the same inputs, in whatever state it is now."""
        return self.view.call(self.view.model, self.inputs, self.extra)

    def scores(self, logits: Tensor | None = None) -> Tensor:
        """The explained scalar [B], of these logits [B, K] or the run's own."""
        logits = self.logits if logits is None else logits
        assert logits is not None and self.classes is not None
        if logits.device.type in ("cpu", "cuda"):  # near 1, the gradient p (1 - p) of a probability is lost in float32
            logits = logits.double()
        if self.kind != "logit":
            logits = logits.log_softmax(-1) if self.kind == "log_probability" else logits.softmax(-1)
        return logits.gather(1, self.classes[:, None])[:, 0]

    def queries(self) -> Tensor:
        """Equal weights [B, n] that sum to one, over the tokens that are no padding."""
        seen = self.seen().to(self.trace.source)
        return seen / seen.sum(1, keepdim=True)

    def seen(self) -> Tensor:
        """True for the tokens [B, n] that are no padding: all of them, unless the model was given a mask of its ids."""
        n = self.trace.source.shape[1]
        args, kwargs = split_arguments(self.extra)
        for given in (kwargs.get("attention_mask"), *args):
            if isinstance(given, Tensor) and given.shape == self.inputs.shape[:2] and given.shape[1] == n:
                return given.to(self.trace.source.device) > 0
        return torch.ones_like(self.trace.source, dtype=torch.bool)

    def readout(self) -> Tensor:
        """Where the class is read at the last layer: weights [B, n] that sum to one.

        CLS alone in a model that classifies by it, both tokens of a distilled DeiT, all patches of a model that
        averages them, the last token of a causal classifier: the tokens on which the logits depend, in equal
        parts. Without a head: the first token where there is a prefix (CLS), else all tokens.
        """
        batch, n = self.trace.source.shape
        read = torch.zeros(batch, n, dtype=torch.bool, device=self.trace.source.device)
        if self.tokens is not None:
            read[:, list(self.tokens)] = True
        elif self.logits is not None:
            weights = torch.linspace(1, 2, self.logits.shape[1], device=self.logits.device).sin()  # any but equal ones
            (gradient,) = self.trace.gradients(self.logits * weights, [self.depth])
            read = gradient.abs().amax(-1) > 0
        else:
            read[:, 0 if self.layout.prefix else slice(None)] = True
        if not read.any(1).all():
            raise UnsupportedModelError(
                f"{self.view.name}: the class scores of a sample do not depend on any token of the last layer, so "
                "there is nothing to explain (constant or saturated scores?)"
            )
        shares = read.to(self.trace.source.dtype)
        return shares / shares.sum(1, keepdim=True)


def run_classified(
    model: nn.Module, view: TransformerView, inputs: Tensor, extra: Any, course: Course, *, target: Any,
    head: Head | None, kind: str, tokens: Sequence[int] | None, needs_class: bool,
) -> ClassRun:  # fmt: skip
    """Run a whole model once and find out which class of every sample is explained.

    Args:
        model: that was asked for the explanation.
        view: of it, or of its tower.
        inputs: of the model.
        extra: Captum's ``additional_forward_args``.
        course: what is followed; keeps the last layer.
        target: a class, one a sample, or None: the predicted one.
        head: as in :func:`captum_ultra.adapters.class_scores.class_scores`.
        kind: the explained scalar.
        tokens: where the class is read.
        needs_class: whether a model without a head is refused.

    Raises:
        ValueError, TypeError: for a target that does not exist.
        UnsupportedModelError: for a model that has no classes, or cannot be followed.
    """
    found: list[Tensor | None] = []

    def read(output: Any) -> None:
        try:
            found.append(class_scores(model, output, head))
        except UnsupportedModelError:
            if needs_class or target is not None or head is not None:
                raise
            found.append(None)

    def check_tokens(layout: TokenLayout, stream: Tensor) -> None:
        wrong = [each for each in tokens or () if not -layout.tokens <= each < layout.tokens]
        if wrong:
            raise ValueError(f"readout: the model sees {layout.tokens} tokens, {wrong[0]} is none of them")

    trace, layout = follow(view, inputs, extra, course, on_layout=check_tokens, on_output=read)
    (logits,) = found
    problem = getattr(getattr(model, "config", None), "problem_type", None)
    if problem == "multi_label_classification" and kind != "logit" and head is None:
        raise ValueError(
            f"class_score={kind!r}: {view.name} is configured for several labels at once, whose logits have no common "
            'softmax; give class_score="logit"'
        )
    with torch.inference_mode(False):
        classes = None if logits is None else choose_classes(target, logits)
    return ClassRun(trace, layout, view, inputs, extra, logits, classes, kind, tokens)


def choose_classes(target: Any, logits: Tensor) -> Tensor:
    """The explained class of every sample [B], out of a class for all, one for each, or None (the predicted one).

    Raises:
        ValueError, TypeError: say what was given and which classes exist.

    Example:
        >>> choose_classes(None, torch.tensor([[0.0, 2.0], [1.0, 0.0]]))
        tensor([1, 0])
    """
    batch, count = logits.shape
    if target is None:
        return logits.detach().argmax(-1)
    if isinstance(target, tuple | str):
        raise TypeError(f"target={target!r}: give the number of a class, or a list or tensor with one a sample")
    classes = torch.as_tensor(target, device=logits.device)
    if not classes.numel():
        raise ValueError(f"target: no class was given for a batch of {batch}")
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise TypeError(f"target must be a class number or several, got {target!r}")
    classes = classes.reshape(-1)
    if len(classes) not in (1, batch):
        raise ValueError(f"target: {len(classes)} classes for a batch of {batch}; give one, or one a sample")
    if ((classes < 0) | (classes >= count)).any():
        wrong = classes[(classes < 0) | (classes >= count)][0].item()
        raise ValueError(f"target: class {wrong} does not exist, the model has {count} classes (0..{count - 1})")
    return classes.long().expand(batch).clone()  # no inference tensor, which no graph can hold


def first_block(start_layer: int, depth: int) -> int:
    """The first block of a product, 0..L-1, out of a number of it that may count from the end.

    Example:
        >>> first_block(-1, depth=12)
        11
    """
    try:
        number = operator.index(start_layer)
    except TypeError:
        raise TypeError(f"start_layer must be an integer, got {start_layer!r}") from None
    if not -depth <= number < depth:
        raise ValueError(f"start_layer={number} does not exist: with {depth} blocks it is 0..{depth - 1}, or negative")
    return number % depth
