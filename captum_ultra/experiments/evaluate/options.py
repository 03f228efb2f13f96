"""What every evaluation depends on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["StudyOptions"]

_SCENES = 100


@dataclass(frozen=True)
class StudyOptions:
    """What the options of all families of studies have in common.

    Attributes:
        study: one of :data:`captum_ultra.experiments.evaluate.STUDIES`.
        data: a name of a data set that the study takes.
        split: as the data set names its parts; None for the one that is usually reported.
        model: a name of :func:`captum_ultra.models.loader.load_model`.
        random_weights: build the model untrained, always with the same weights.
        images: how many; all of a data set of files, or 100 scenes, when None.
        seed: of the scenes, and of everything that is drawn at random.

    Raises:
        ValueError: for numbers out of range.
    """

    study: str
    data: str = "scenes"
    split: str | None = None
    model: str = ""
    random_weights: bool = False
    images: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images is not None and self.images < 1:
            raise ValueError(f"images is {self.images}; evaluate at least one")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must not be negative")

    @property
    def scenes(self) -> int:
        """How many scenes are rendered."""
        return _SCENES if self.images is None else self.images

    def identity(self) -> dict[str, Any]:
        """What an image's result depends on, in plain numbers and strings: not on how many images there are."""
        found = asdict(self)
        del found["images"]
        return found
