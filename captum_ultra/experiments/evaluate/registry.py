"""The studies by name."""

from __future__ import annotations

from captum_ultra.experiments.evaluate.layers import LayerStudy
from captum_ultra.experiments.evaluate.object_selection import ObjectSelectionStudy, TauStudy
from captum_ultra.experiments.evaluate.perturbation import PerturbationStudy
from captum_ultra.experiments.evaluate.segmentation import SegmentationStudy
from captum_ultra.experiments.evaluate.study import Study
from captum_ultra.experiments.evaluate.zeta import ZetaStudy

__all__ = ["STUDIES", "find_study"]

STUDIES: dict[str, type[Study]] = {
    "ultra-segmentation": SegmentationStudy,
    "ultra-object-selection": ObjectSelectionStudy,
    "ultra-perturbation": PerturbationStudy,
    "ultra-layers": LayerStudy,
    "ultra-tau": TauStudy,
    "ultra-zeta": ZetaStudy,
}


def find_study(name: str) -> type[Study]:
    """A study by name.

    Raises:
        ValueError: for an unknown one; lists those known.
    """
    if name not in STUDIES:
        raise ValueError(f"study {name!r} is unknown; known are {', '.join(STUDIES)}")
    return STUDIES[name]
