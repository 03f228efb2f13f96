"""The parts of TokenTM: without them, and over the first blocks only (Tables 6 and 7)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from captum_ultra.data.class_samples import LocalisationSample
from captum_ultra.experiments.evaluate.rows import Row
from captum_ultra.experiments.evaluate.token_tm.accuracy import PROTOCOL as AREAS
from captum_ultra.experiments.evaluate.token_tm.accuracy import area_of, right
from captum_ultra.experiments.evaluate.token_tm.data import EITHER, Sample
from captum_ultra.experiments.evaluate.token_tm.localization import PROTOCOL as MASKS
from captum_ultra.experiments.evaluate.token_tm.localization import localization_scores
from captum_ultra.experiments.evaluate.token_tm.maps import MapMaker, ablation_makers
from captum_ultra.experiments.evaluate.token_tm.measures import ORDERS, localized
from captum_ultra.experiments.evaluate.token_tm.options import TokenTMOptions
from captum_ultra.experiments.evaluate.token_tm.published import published_ablation
from captum_ultra.experiments.evaluate.token_tm.study import Result, TokenTMSetting, TokenTMStudy

__all__ = ["AblationStudy"]


class AblationStudy(TokenTMStudy):
    """TokenTM part by part, and over the first quarters of the blocks (Tables 6 and 7).

    Localisation where the data set has masks, areas under the accuracy where it has labels; scenes have both.
    """

    title = "ablation of TokenTM"
    takes = EITHER

    @classmethod
    def check(cls, options: TokenTMOptions) -> None:
        if options.methods:
            raise ValueError(f"{options.study} takes TokenTM apart: leave methods away")

    @classmethod
    def makers_for(cls, setting: TokenTMSetting) -> dict[str, MapMaker]:
        return ablation_makers(setting.model, setting.depth)

    @property
    def protocol(self) -> str:
        return f"the {' and the '.join(self.setting.explained)} class; {MASKS}; {AREAS}"

    def measure(self, x: Tensor, sample: Sample, logits: Tensor, number: int) -> Result:
        return {
            each: {
                name: {
                    **(localized(found, sample.mask) if isinstance(sample, LocalisationSample) else {}),
                    **({} if sample.label is None else right(self.removed(x, found), sample.label)),
                }
                for name, found in self.maps(x, target, number)
            }
            for each, target in self.explained_classes(sample, logits).items()
        }

    def rows(self, results: Sequence[Result]) -> list[Row]:
        data, rows = self.setting.options.data, []
        for explained in self.setting.explained:
            images = [each[explained] for each in results]
            backbone = self.setting.backbone if explained == "predicted" else None
            for name, found in images[0].items():
                scores = localization_scores(images, name) if "confusion" in found else {}
                rows += [
                    Row(name, self.named(explained, metric), each, published_ablation(data, backbone, name, metric))
                    for metric, each in scores.items()
                ]
                rows += [
                    Row(
                        name, self.named(explained, f"{order} AUC"), area_of([each[name][order] for each in images]),
                        published_ablation(data, backbone, name, order), unit="",
                    )
                    for order in ORDERS if order in found
                ]  # fmt: skip
        return rows

    def notes(self) -> list[str]:
        return ["The paper says ViT-B; patches of 16 pixels and ImageNet's weights are assumed."]
