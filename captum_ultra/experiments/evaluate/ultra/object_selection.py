"""Object selection: whether a token's thresholded map is the object that the token comes from (ITIoU)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from captum_ultra.attr.latent_token import LatentTokenAttribution
from captum_ultra.data.samples import IGNORE
from captum_ultra.experiments.evaluate.rows import Row, percent
from captum_ultra.experiments.evaluate.ultra.published import published_itiou
from captum_ultra.experiments.evaluate.ultra.study import Result, UltraSetting, UltraStudy
from captum_ultra.intervals import bootstrap
from captum_ultra.metrics import initial_token_iou
from captum_ultra.segmentation import object_mask
from captum_ultra.segmentation.enlarging import enlarge

__all__ = ["ObjectSelectionStudy", "TauStudy", "itiou_row", "itious"]


def itious(maps: Tensor, target: Tensor, taus: Sequence[float], ignore: int | None) -> list[float | None]:
    """ITIoU of one image at every tau, as :class:`captum_ultra.metrics.InitialTokenIoU` has it.

    Args:
        maps: of all patch tokens, [P, rows, columns].
        target: int64 [H, W].
        taus: thresholds of maps scaled to 0..1.
        ignore: the target of void pixels.

    Returns:
        Shares in 0..1; None where no token has a class.
    """
    grid = maps.shape[1], maps.shape[2]
    large = enlarge(maps, (target.shape[0], target.shape[1]), "bilinear").cpu()
    found = [float(initial_token_iou(object_mask(large, tau), target, grid, ignore)) for tau in taus]
    return [None if value != value else value for value in found]


def itiou_row(
    name: str, values: Sequence[float | None], published: float | None = None, at: float | None = None
) -> Row:
    """The mean over images in which a token has a class.

    Raises:
        ValueError: if there is none.
    """
    known = [value for value in values if value is not None]
    if not known:
        raise ValueError(f"in none of {len(values)} images a token has a class: their patches are mostly void")
    return Row(name, "ITIoU", percent(bootstrap(torch.tensor(known, dtype=torch.float64))), published, at)


class ObjectSelectionStudy(UltraStudy):
    """ITIoU at tau = 0.2 (the paper's object selection, eq. 14 to 17)."""

    title = "object selection"
    sweep: ClassVar[tuple[float, ...]] = (0.2,)

    def __init__(self, setting: UltraSetting) -> None:
        super().__init__(setting)
        self.explain = LatentTokenAttribution(setting.model)

    @property
    def protocol(self) -> str:
        taus = ", ".join(f"{value:g}" for value in self.values)
        return f"maps of all patch tokens, min-max scaled, at tau = {taus}; mean over tokens, classes, images"

    def measure(self, x: Tensor, target: Tensor, number: int) -> Result:
        grid = self.explain.token_layout(x).grid
        if grid is None:
            raise ValueError("the patch grid is not known, so the maps have no place in the image")
        found: Result = {}
        for name, score in self.scores.items():
            maps = self.explain.attribute(x, "patches", self.setting.layer, score=score, output="patches")
            assert isinstance(maps, Tensor)  # as the input is
            found[name] = itious(maps[0].unflatten(-1, grid), target, self.values, IGNORE)
        return found

    def rows(self, results: Sequence[Result]) -> list[Row]:
        data, backbone = self.setting.options.data, self.setting.backbone
        return [
            itiou_row(
                name, [each[name][place] for each in results], published_itiou(data, backbone, tau),
                tau if self.axis else None,
            )
            for name in self.scores for place, tau in enumerate(self.values)
        ]  # fmt: skip

    def notes(self) -> list[str]:
        return ["The published ITIoU is known here without its backbone and score."] if self.setting.backbone else []


class TauStudy(ObjectSelectionStudy):
    """ITIoU over tau; the maps of an image are made once."""

    title = "object selection over tau"
    axis = "tau"
    expected = "between 0 and 1"
    sweep = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))

    @classmethod
    def possible(cls, value: float) -> bool:
        return 0 <= value <= 1
