"""The studies by name."""

from __future__ import annotations

from typing import Any

from captum_ultra.experiments.evaluate.options import StudyOptions
from captum_ultra.experiments.evaluate.study import Study
from captum_ultra.experiments.evaluate.token_tm.ablation import AblationStudy
from captum_ultra.experiments.evaluate.token_tm.accuracy import AccuracyStudy
from captum_ultra.experiments.evaluate.token_tm.localization import LocalizationStudy
from captum_ultra.experiments.evaluate.token_tm.probability import ProbabilityStudy
from captum_ultra.experiments.evaluate.ultra.layers import LayerStudy
from captum_ultra.experiments.evaluate.ultra.object_selection import ObjectSelectionStudy, TauStudy
from captum_ultra.experiments.evaluate.ultra.perturbation import PerturbationStudy
from captum_ultra.experiments.evaluate.ultra.segmentation import SegmentationStudy
from captum_ultra.experiments.evaluate.ultra.zeta import ZetaStudy

__all__ = ["STUDIES", "check_options", "find_study"]

STUDIES: dict[str, type[Study[Any, Any]]] = {
    "ultra-segmentation": SegmentationStudy,
    "ultra-object-selection": ObjectSelectionStudy,
    "ultra-perturbation": PerturbationStudy,
    "ultra-layers": LayerStudy,
    "ultra-tau": TauStudy,
    "ultra-zeta": ZetaStudy,
    "tokentm-localization": LocalizationStudy,
    "tokentm-accuracy": AccuracyStudy,
    "tokentm-probability": ProbabilityStudy,
    "tokentm-ablation": AblationStudy,
}


def find_study(name: str) -> type[Study[Any, Any]]:
    """A study by name.

    Raises:
        ValueError: for an unknown one; lists those known.
    """
    if name not in STUDIES:
        raise ValueError(f"study {name!r} is unknown; known are {', '.join(STUDIES)}")
    return STUDIES[name]


def check_options(options: StudyOptions, study: type[Study[Any, Any]]) -> None:
    """Raise unless a study takes these options.

    Raises:
        TypeError: for the options of another family.
        ValueError: for options that the study does not have.
    """
    if not isinstance(options, study.options_class):
        raise TypeError(
            f"{options.study} takes {study.options_class.__name__}, not {type(options).__name__}: see "
            f"{study.options_class.__module__}"
        )
    study.check(options)
