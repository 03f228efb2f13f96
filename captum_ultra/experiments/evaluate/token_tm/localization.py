"""Localisation: whether the map of a class is the object (Table 1)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from captum_ultra.experiments.evaluate.rows import Row
from captum_ultra.experiments.evaluate.token_tm.data import MASKS, Sample, mask_of
from captum_ultra.experiments.evaluate.token_tm.located import located, of_located
from captum_ultra.experiments.evaluate.token_tm.published import published_localization
from captum_ultra.experiments.evaluate.token_tm.study import Result, TokenTMStudy, label

__all__ = ["PROTOCOL", "LocalizationStudy"]

PROTOCOL = "foreground = map above its mean; pixel accuracy and mIoU over all pixels of the set, mAP the mean of images"


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
            each: {name: located(found, mask) for name, found in self.maps(x, target, number)}
            for each, target in self.explained_classes(sample, logits).items()
        }

    def rows(self, results: Sequence[Result]) -> list[Row]:
        data, backbone = self.setting.options.data, self.setting.backbone
        rows = []
        for explained in self.setting.explained:
            compared = backbone if explained == "predicted" else None
            for name in results[0][explained]:
                found = of_located([each[explained][name] for each in results])
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
