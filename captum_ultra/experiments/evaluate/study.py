"""What every study has in common: one result an image, and rows made of all results."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from torch import nn

from captum_ultra.experiments.evaluate.folder import digest, versions, weights_digest
from captum_ultra.experiments.evaluate.inputs import ModelInput
from captum_ultra.experiments.evaluate.options import StudyOptions
from captum_ultra.experiments.evaluate.rows import Row, as_text
from captum_ultra.models.loader import LoadedModel

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
        data: the images, a data set with ``names``.
        prepare: makes the model's input of an image.
    """

    options: StudyOptions
    model: nn.Module
    data: Any
    prepare: ModelInput

    def identity(self) -> dict[str, Any]:
        """What an image's result depends on; scenes are named by their seed, which is among the options."""
        options, found = self.options, versions()
        return {
            **options.identity(),
            "weights": weights_digest(self.model),
            "names": None if options.data == "scenes" else digest("\n".join(self.data.names)),
            "captum_ultra": found["captum_ultra"],
            "torch": found["torch"],
        }


OptionsT = TypeVar("OptionsT", bound=StudyOptions)
SettingT = TypeVar("SettingT", bound=Setting)


class Study(ABC, Generic[OptionsT, SettingT]):
    """One kind of table or figure.

    A family of studies says which options it takes and what its studies work on; a study, what one image gives and
    which rows are made of all results.

    Args:
        setting: what it works on.
    """

    title: ClassVar[str]
    options_class: ClassVar[type[StudyOptions]]
    heading: ClassVar[str]  # of the column that says whose a number is
    axis: ClassVar[str] = ""  # of what is swept; empty where nothing is

    def __init__(self, setting: SettingT) -> None:
        self.setting = setting

    @classmethod
    def check(cls, options: OptionsT) -> None:
        """Raise ``ValueError`` for options that this study does not have, before anything is loaded."""

    @classmethod
    @abstractmethod
    def check_data(cls, options: OptionsT, root: str | Path | None) -> None:
        """Raise ``ValueError`` or ``FileNotFoundError`` for data that are not there, before a model is loaded."""

    @classmethod
    @abstractmethod
    def setting_for(
        cls, options: OptionsT, loaded: LoadedModel, root: str | Path | None, folder: Path, show_progress: bool
    ) -> SettingT:
        """What the study works on; raises for a model that does not fit, before anything is written."""

    @abstractmethod
    def subject(self, images: str) -> str:
        """Which data and which model, in one line; ``images`` says how many of how many."""

    @property
    @abstractmethod
    def protocol(self) -> str:
        """How it is measured, in one line; names an oracle."""

    @abstractmethod
    def result_of(self, sample: Any, number: int) -> Result:
        """What one image gives.

        Args:
            sample: as the data set has it.
            number: of the image in its data set.
        """

    @abstractmethod
    def rows(self, results: Sequence[Result]) -> list[Row]:
        """The table, of one result an image."""

    def notes(self) -> list[str]:
        """What to know about the published numbers beside the table."""
        return []

    def table(self, rows: Sequence[Row]) -> str:
        """The rows as text."""
        return as_text(rows, self.axis, self.heading)

    def figure(self, rows: Sequence[Row], results: Sequence[Result]) -> Figure:
        """The picture of the table."""
        from captum_ultra.insights.evaluation import curves_figure, points_figure

        return curves_figure(rows, self.axis) if self.axis else points_figure(rows)
