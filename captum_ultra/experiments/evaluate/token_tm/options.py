"""What an evaluation of explanations of a class depends on."""

from __future__ import annotations

from dataclasses import dataclass

from captum_ultra.attr.methods import method_class
from captum_ultra.experiments.evaluate.options import StudyOptions

__all__ = ["EXPLAINED", "TokenTMOptions"]

EXPLAINED = ("predicted", "target")


@dataclass(frozen=True)
class TokenTMOptions(StudyOptions):
    """Everything that the numbers of an evaluation depend on, except where files lie and on which device it runs.

    Attributes:
        study: one whose name begins with "tokentm-".
        data: a name of :func:`captum_ultra.data.class_registry.classification_dataset` or
            :func:`captum_ultra.data.class_registry.localisation_dataset`.
        split: as the data set names its parts; None for the one that is usually reported.
        model: a name of :func:`captum_ultra.models.loader.load_model`: a classifier.
        random_weights: build the model untrained, always with the same weights.
        images: how many; all of a data set of files, or 100 scenes, when None.
        seed: of the scenes, of the choice of images, and of the random control.
        methods: names of :data:`captum_ultra.attr.methods.METHODS`; all when empty.
        explained: which class is explained, "predicted", "target" (the label), or both; the study's own when empty.

    Raises:
        ValueError: for an unknown method or class, one that is named twice, or numbers out of range.

    Example:
        >>> TokenTMOptions("tokentm-localization", methods=("gae", "token_tm"), images=20).model
        'scenes-classifier'
    """

    model: str = "scenes-classifier"
    methods: tuple[str, ...] = ()
    explained: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in self.methods:
            method_class(name)
        for each in self.explained:
            if each not in EXPLAINED:
                raise ValueError(f"the explained class is {each!r}; possible: {', '.join(map(repr, EXPLAINED))}")
        for given in (self.methods, self.explained):
            if len(set(given)) < len(given):
                raise ValueError(f"{', '.join(given)}: name each once")
