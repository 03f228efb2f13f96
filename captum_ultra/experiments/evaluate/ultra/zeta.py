"""Segmentation over zeta, the distance up to which maps are joined."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ultra.experiments.evaluate.rows import Row
from captum_ultra.experiments.evaluate.ultra.confusions import confusion_of
from captum_ultra.experiments.evaluate.ultra.segmentation import PROTOCOL, score_rows, segmenters
from captum_ultra.experiments.evaluate.ultra.study import Result, UltraSetting, UltraStudy
from captum_ultra.intervals import bootstrap
from captum_ultra.segmentation import LatentTokenSegmenter, gt_unique

__all__ = ["ZetaStudy"]


class ZetaStudy(UltraStudy):
    """U.ACC, U.mIoU and the number of regions at every zeta; the tree of an image is made once.

    Beside them, from the same tree, what the oracle's k gives.
    """

    title = "segmentation over zeta"
    axis = "zeta"
    expected = "a distance from 0 to 2"
    sweep = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))

    def __init__(self, setting: UltraSetting) -> None:
        super().__init__(setting)
        self.segmenters = segmenters(setting, setting.layer, self.scores)

    @classmethod
    def possible(cls, value: float) -> bool:
        return 0 <= value <= 2

    @property
    def protocol(self) -> str:
        return f"{PROTOCOL}; trees cut at zeta; rows without a zeta: {self.setting.options.cut_policy}"

    def measure(self, x: Tensor, target: Tensor, number: int) -> Result:
        return {name: self._over_zeta(each, x, target) for name, each in self.segmenters.items()}

    def rows(self, results: Sequence[Result]) -> list[Row]:
        rows = []
        for name in self.scores:
            rows += score_rows(self.setting, name, [each[name]["oracle"] for each in results], None)
            for place, zeta in enumerate(self.values):
                confusions = [each[name]["confusions"][place] for each in results]
                rows += score_rows(self.setting, name, confusions, zeta, zeta)
                regions = torch.tensor([each[name]["regions"][place] for each in results], dtype=torch.float64)
                rows.append(Row(name, "regions of an image", bootstrap(regions), at=zeta, unit=""))
        return rows

    def notes(self) -> list[str]:
        known = "The published row at distance 0.4 is known here without its backbone and score."
        return [known] if self.setting.backbone else []

    def _over_zeta(self, segmenter: LatentTokenSegmenter, x: Tensor, target: Tensor) -> Result:
        found = segmenter.segment(x, n_clusters=gt_unique(target[None]))
        labels = [found.cut(threshold=zeta).labels[0] for zeta in self.values]
        classes = self.setting.classes
        return {
            "oracle": confusion_of(found.labels[0], target, classes),
            "confusions": [confusion_of(each, target, classes) for each in labels],
            "regions": [int(each.max()) + 1 for each in labels],
        }
