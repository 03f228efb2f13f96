"""What a method is asked: a question about a layer of a model's runs, and the method's own choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor

from captum_ultra.adapters import TokenLayout, TransformerView
from captum_ultra.attr.questions import ClassQuestion, Question
from captum_ultra.attr.runs import Attended, Kind, Need, Run, Runs
from captum_ultra.relevance import Explained

if TYPE_CHECKING:
    from captum_ultra.attr.attribution import TokenAttribution

__all__ = ["Asked", "NoChoices", "StartLayer", "runs_for", "start_of"]


@dataclass(frozen=True)
class NoChoices:
    """The choices of a method that has none."""


@dataclass(frozen=True)
class StartLayer:
    """The choice of methods that go through blocks.

    Attributes:
        start_layer: the first block of the product, negative from the last one below what is explained.
    """

    start_layer: int = 0


@dataclass(frozen=True, eq=False)
class Asked:
    """What a method gets to make rows of.

    Attributes:
        runs: of the model.
        question: what is explained.
        layer: number of blocks passed; all of them for a class.
        choices: of the method.
    """

    runs: Runs
    question: Question
    layer: int
    choices: Any

    def run(self, kind: Kind | None = None) -> Run:
        """The run of a kind."""
        return self.runs.of(kind or Attended())

    def explained(self, kind: Kind | None = None, *, begins: bool = True) -> Explained:
        """The targets in the run of a kind; ``begins``: whether relevance begins at tokens, or at the score itself."""
        linear = not isinstance(kind or Attended(), Attended)
        return self.question.explained(self.runs, self.run(kind), self.layer, linear=linear, begins=begins)


def runs_for(
    methods: Mapping[TokenAttribution, Any], view: TransformerView, inputs: Tensor, extra: Any,
    questions: Sequence[Question], layers: Sequence[int],
) -> Runs:  # fmt: skip
    """The runs of a model that methods with their choices need, to answer questions about some layers."""
    needs = [
        need
        for method, choices in methods.items()
        for layer in layers
        for need in (method.needs(layer, choices) if layer else [Need(Attended(), 0, (0,))])
    ]

    def start(layout: TokenLayout, stream: Tensor) -> None:
        for question in questions:
            question.check(layout, stream)

    read = questions[0].read if isinstance(questions[0], ClassQuestion) else None
    model = next(iter(methods)).model
    return Runs(view, model, inputs, extra, needs, on_start=start, read=read)


def start_of(start_layer: int, layer: int) -> int:
    """The first block of a product, 0..l-1, out of a number of it that may count from the end.

    Raises:
        ValueError, TypeError: if there is no such block below the layer.

    Example:
        >>> start_of(-1, layer=12)
        11
    """
    if isinstance(start_layer, bool) or not isinstance(start_layer, int):
        raise TypeError(f"start_layer must be an integer, got {start_layer!r}")
    if not -layer <= start_layer < layer:
        raise ValueError(
            f"start_layer={start_layer} does not exist: with {layer} blocks it is 0..{layer - 1}, or negative"
        )
    return start_layer % layer
