"""Segmentation by clustered maps: U.ACC and U.mIoU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from captum_ultra.attr.scores import Score
from captum_ultra.experiments.evaluate.rows import Row, percent
from captum_ultra.experiments.evaluate.ultra.confusions import confusion_of
from captum_ultra.experiments.evaluate.ultra.published import published_segmentation
from captum_ultra.experiments.evaluate.ultra.set_scores import Entries, set_scores
from captum_ultra.experiments.evaluate.ultra.study import Result, UltraSetting, UltraStudy
from captum_ultra.segmentation import LatentTokenSegmenter, Segmentation, SegmentationRule, gt_unique

__all__ = ["PROTOCOL", "SegmentationStudy", "cut_as_told", "score_rows", "segmenters"]

PROTOCOL = 'protocol "image": the clusters of every image are matched to the classes present in it'


def segmenters(setting: UltraSetting, layer: int, scores: Mapping[str, Score]) -> dict[str, LatentTokenSegmenter]:
    """One a score; labels have the size of the targets."""
    rule = SegmentationRule(size=setting.pixels)
    return {name: LatentTokenSegmenter(setting.model, layer, score, rule=rule) for name, score in scores.items()}


def cut_as_told(setting: UltraSetting, segmenter: LatentTokenSegmenter, x: Tensor, target: Tensor) -> Segmentation:
    """The segmentation at the options' k or zeta, or at the number of classes in the target."""
    options = setting.options
    if options.zeta is not None:
        return segmenter.segment(x, threshold=options.zeta)
    return segmenter.segment(x, n_clusters=gt_unique(target[None]) if options.k is None else options.k)


def score_rows(
    setting: UltraSetting, name: str, images: Sequence[Entries], zeta: float | None, at: float | None = None,
    *, compared: bool = True,
) -> list[Row]:  # fmt: skip
    """U.ACC and U.mIoU of one score, beside those reported for the cut at ``zeta`` (None: at the oracle's k)."""
    backbone = setting.backbone if compared else None
    return [
        Row(
            name, metric, percent(found),
            published_segmentation(setting.options.data, backbone, name, metric, zeta), at,
        )
        for metric, found in set_scores(images, setting.classes).items()
    ]  # fmt: skip


class SegmentationStudy(UltraStudy):
    """ULTra's segmentations against the ground truth (the paper's segmentation tables)."""

    title = "segmentation by clustered maps"
    cuts = True

    def __init__(self, setting: UltraSetting) -> None:
        super().__init__(setting)
        self.segmenters = segmenters(setting, setting.layer, self.scores)

    @property
    def protocol(self) -> str:
        return f"{PROTOCOL}; {self.setting.options.cut_policy}"

    def measure(self, x: Tensor, target: Tensor, number: int) -> Result:
        found = {
            name: cut_as_told(self.setting, each, x, target).labels[0] for name, each in self.segmenters.items()
        }  # fmt: skip
        return {name: confusion_of(labels, target, self.setting.classes) for name, labels in found.items()}

    def rows(self, results: Sequence[Result]) -> list[Row]:
        options = self.setting.options
        return [
            row
            for name in self.scores
            for row in score_rows(
                self.setting, name, [each[name] for each in results], options.zeta, compared=options.k is None
            )
        ]

    def notes(self) -> list[str]:
        if self.setting.options.zeta is None:
            return []
        return ["The published row at distance 0.4 is known here without its backbone and score."]
