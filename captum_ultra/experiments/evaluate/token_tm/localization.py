"""Localisation: whether the map of a class is the object (Table 1)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ultra.experiments.evaluate.rows import Row, percent
from captum_ultra.experiments.evaluate.set_scores import set_scores
from captum_ultra.experiments.evaluate.token_tm.data import MASKS, Sample, mask_of
from captum_ultra.experiments.evaluate.token_tm.located import localized
from captum_ultra.experiments.evaluate.token_tm.published import published_localization
from captum_ultra.experiments.evaluate.token_tm.study import Result, TokenTMStudy, label
from captum_ultra.intervals import Interval, bootstrap

__all__ = ["PROTOCOL", "LocalizationStudy", "localization_scores"]

PROTOCOL = "foreground = map above its mean; pixel accuracy and mIoU over all pixels of the set, mAP the mean of images"


def localization_scores(images: Sequence[Result]) -> dict[str, Interval]:
    """Pixel accuracy, mAP and mIoU of one method in percent, over what was found of every image."""
    found = set_scores([each["confusion"] for each in images], 2)
    precision = bootstrap(torch.tensor([each["precision"] for each in images], dtype=torch.float64))
    scores = {"pixel accuracy": found["U.ACC"], "mAP": precision, "mIoU": found["U.mIoU"]}
    return {metric: percent(each) for metric, each in scores.items()}


class LocalizationStudy(TokenTMStudy):
    """Maps against the masks of objects (Table 1)."""

    title = "localisation of the object"
    takes = MASKS

    @property
    def protocol(self) -> str:
        return f"the {' and the '.join(self.setting.explained)} class; {PROTOCOL}"

    def measure(self, x: Tensor, sample: Sample, logits: Tensor, number: int) -> Result:
        mask = mask_of(sample)
        return {
            each: {name: localized(found, mask) for name, found in self.maps(x, target, number)}
            for each, target in self.explained_classes(sample, logits).items()
        }

    def rows(self, results: Sequence[Result]) -> list[Row]:
        data, backbone = self.setting.options.data, self.setting.backbone
        rows = []
        for explained in self.setting.explained:
            compared = backbone if explained == "predicted" else None
            for name in results[0][explained]:
                found = localization_scores([each[explained][name] for each in results])
                rows += [
                    Row(
                        label(name), self.named(explained, metric), measured,
                        published_localization(data, compared, name, metric),
                    )
                    for metric, measured in found.items()
                ]  # fmt: skip
        return rows

    def notes(self) -> list[str]:
        return ["The paper says DeiT; it is taken to be DeiT-B with patches of 16 pixels."]
