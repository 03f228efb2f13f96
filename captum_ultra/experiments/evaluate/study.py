"""What every study has in common: one result an image, and rows made of all results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn

from captum_ultra.attr.scores import Score
from captum_ultra.experiments.evaluate.options import Options
from captum_ultra.experiments.evaluate.published import backbone_of
from captum_ultra.experiments.evaluate.rows import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Result", "Setting", "Study"]

Result = dict[str, Any]
"""What one image gave, in plain numbers, lists and strings."""


@dataclass(frozen=True, eq=False)
class Setting:
    """What a study works on.

    Attributes:
        options: of the evaluation.
        model: in evaluation mode.
        layer: number of blocks passed, from 1.
        depth: the number of the model's blocks.
        classes: how many the data set has.
        pixels: (H, W) of the labels.
        scores: of a layer, by the paper's names.
    """

    options: Options
    model: nn.Module
    layer: int
    depth: int
    classes: int
    pixels: tuple[int, int]
    scores: Callable[[int], Mapping[str, Score]]

    @property
    def backbone(self) -> str | None:
        """The paper's name of the model, where the numbers can be compared with its own.

        That is: pretrained weights, the last layer, and the protocol's images.
        """
        options = self.options
        as_published = options.split == "val" and options.size is None and not options.random_weights
        return backbone_of(options.model) if as_published and self.layer == self.depth else None


class Study(ABC):
    """One kind of table or figure.

    Args:
        setting: what it works on.
    """

    title: ClassVar[str]
    axis: ClassVar[str] = ""  # of what is swept; empty where nothing is
    sweep: ClassVar[tuple[float, ...]] = ()  # unless the options say otherwise
    expected: ClassVar[str] = ""  # of a value that is swept
    cuts: ClassVar[bool] = False  # whether k and zeta matter

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.values = setting.options.values or self.own_values()
        # All of them now: ULTra_W is trained before the first image is looked at.
        self.scores_at = {layer: setting.scores(layer) for layer in self.layers()}
        self.scores = self.scores_at[self.layers()[-1]]

    def own_values(self) -> tuple[float, ...]:
        """What is swept where the options do not say."""
        return self.sweep

    def layers(self) -> tuple[int, ...]:
        """The layers that are explained, numbers of blocks passed."""
        return (self.setting.layer,)

    @classmethod
    def check(cls, options: Options) -> None:
        """Raise ``ValueError`` for options that this study does not have, before anything is loaded."""
        if options.values and not cls.axis:
            raise ValueError(f"{options.study} sweeps nothing: leave values={options.values} away")
        if not options.oracle and not cls.cuts:
            raise ValueError(f"{options.study} cuts no tree at a k or zeta of yours: leave k and zeta away")
        if any(not cls.possible(value) for value in options.values):
            raise ValueError(f"values {options.values}: a {cls.axis} must be {cls.expected}")

    @classmethod  # noqa: B027 (most studies ask nothing more of a model)
    def check_model(cls, setting: Setting) -> None:
        """Raise ``ValueError`` for a model that lacks what is asked for, before anything is written."""

    @classmethod
    def possible(cls, value: float) -> bool:
        """Whether a value can be swept."""
        return True

    @property
    @abstractmethod
    def protocol(self) -> str:
        """How it is measured, in one line; names an oracle."""

    @abstractmethod
    def measure(self, x: Tensor, target: Tensor, number: int) -> Result:
        """What one image gives.

        Args:
            x: the input [1, 3, side, side].
            target: its labels, int64 [H, W].
            number: of the image in its data set.
        """

    @abstractmethod
    def rows(self, results: Sequence[Result]) -> list[Row]:
        """The table, of one result an image."""

    def notes(self) -> list[str]:
        """What to know about the published numbers beside the table."""
        return []

    def figure(self, rows: Sequence[Row], results: Sequence[Result]) -> Figure:
        """The picture of the table."""
        from captum_ultra.insights.evaluation import curves_figure, points_figure

        return curves_figure(rows, self.axis) if self.axis else points_figure(rows)
