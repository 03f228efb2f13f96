"""The parts of TokenTM: without them, and over the first blocks only (Tables 6 and 7)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from captum_ultra.data.class_samples import LocalisationSample
from captum_ultra.experiments.evaluate.rows import Row
from captum_ultra.experiments.evaluate.token_tm.accuracy import PROTOCOL as AREAS
from captum_ultra.experiments.evaluate.token_tm.data import EITHER, Sample
from captum_ultra.experiments.evaluate.token_tm.data import MASKS as WITH_MASKS
from captum_ultra.experiments.evaluate.token_tm.localization import PROTOCOL as MASKS
from captum_ultra.experiments.evaluate.token_tm.located import located, of_located
from captum_ultra.experiments.evaluate.token_tm.maps import MapMaker, ablation_makers
from captum_ultra.experiments.evaluate.token_tm.options import TokenTMOptions
from captum_ultra.experiments.evaluate.token_tm.published import published_ablation
from captum_ultra.experiments.evaluate.token_tm.removal import ORDERS, flags_of, of_flags
from captum_ultra.experiments.evaluate.token_tm.study import Result, TokenTMSetting, TokenTMStudy, label
from captum_ultra.intervals import Interval

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
        measured = [MASKS] if self.setting.options.data in WITH_MASKS else []
        measured += [AREAS] if self.setting.data.classes else []
        return "; ".join([f"the {' and the '.join(self.setting.explained)} class", *measured])

    def measure(self, x: Tensor, sample: Sample, logits: Tensor, number: int) -> Result:
        return {
            each: {name: self._cell(x, sample, target, found) for name, found in self.maps(x, target, number)}
            for each, target in self.explained_classes(sample, logits).items()
        }

    def _cell(self, x: Tensor, sample: Sample, target: int, found: Tensor) -> Result:
        """What the data set allows to measure of one map."""
        cell = Result(located=located(found, sample.mask)) if isinstance(sample, LocalisationSample) else Result()
        if sample.label is not None:
            cell["right"] = flags_of(self.removed(x, found, target, sample.label))
        return cell

    def rows(self, results: Sequence[Result]) -> list[Row]:
        data, rows = self.setting.options.data, []
        for explained in self.setting.explained:
            backbone = self.setting.backbone if explained == "predicted" else None
            for name in results[0][explained]:
                cells = [each[explained][name] for each in results]
                rows += [
                    Row(
                        label(name), self.named(explained, metric), measured,
                        published_ablation(data, backbone, name, metric.removesuffix(" AUC")), unit=unit,
                    )
                    for metric, measured, unit in _scores(cells)
                ]  # fmt: skip
        return rows

    def notes(self) -> list[str]:
        return ["The paper says ViT-B; patches of 16 pixels and ImageNet's weights are assumed."]


def _scores(cells: Sequence[Result]) -> Iterator[tuple[str, Interval, str]]:
    """Metric, value and unit of one row of the ablation, of what was measured of all images."""
    if "located" in cells[0]:
        for metric, measured in of_located([cell["located"] for cell in cells]).items():
            yield metric, measured, "%"
    if "right" in cells[0]:
        found = of_flags([cell["right"] for cell in cells])
        for order in ORDERS:
            yield f"{order} AUC", found.score("accuracy_auc", order), ""
