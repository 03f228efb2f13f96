"""What another layer's tokens give: segmentation and object selection after every block."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from captum_ultra.data.samples import IGNORE
from captum_ultra.experiments.evaluate.rows import Row
from captum_ultra.experiments.evaluate.ultra.confusions import confusion_of
from captum_ultra.experiments.evaluate.ultra.object_selection import itiou_row, itious
from captum_ultra.experiments.evaluate.ultra.options import Options
from captum_ultra.experiments.evaluate.ultra.segmentation import PROTOCOL, cut_as_told, score_rows, segmenters
from captum_ultra.experiments.evaluate.ultra.study import Result, UltraSetting, UltraStudy

__all__ = ["LayerStudy"]

_TAU = 0.2


class LayerStudy(UltraStudy):
    """Every layer in turn (the paper's layer study); ITIoU at tau = 0.2."""

    title = "layers"
    axis = "layer"
    expected = "a number of blocks passed, 1 or more"
    cuts = True

    def __init__(self, setting: UltraSetting) -> None:
        super().__init__(setting)
        self.segmenters = {
            (name, layer): each
            for layer, scores in self.scores_at.items()
            for name, each in segmenters(setting, layer, scores).items()
        }

    def own_values(self) -> tuple[float, ...]:
        return tuple(range(1, self.setting.depth + 1))

    def layers(self) -> tuple[int, ...]:
        return tuple(map(int, self.values))

    @classmethod
    def check(cls, options: Options) -> None:
        if options.layer != -1:
            raise ValueError(f"{options.study} goes through layers: give values=({options.layer},), not layer")
        super().check(options)

    @classmethod
    def check_model(cls, setting: UltraSetting) -> None:
        asked = setting.options.values
        if asked and asked[-1] > setting.depth:
            raise ValueError(f"layer {asked[-1]:g} does not exist; the model has 1 to {setting.depth}")

    @classmethod
    def possible(cls, value: float) -> bool:
        return value >= 1 and value == int(value)

    @property
    def protocol(self) -> str:
        return f"{PROTOCOL}; {self.setting.options.cut_policy}; ITIoU at tau = {_TAU:g}"

    def measure(self, x: Tensor, target: Tensor, number: int) -> Result:
        found: Result = {name: {"confusions": [], "itiou": []} for name in self.scores}
        for (name, _), segmenter in self.segmenters.items():
            segmented = cut_as_told(self.setting, segmenter, x, target)
            confusion = confusion_of(segmented.labels[0], target, self.setting.classes)
            found[name]["confusions"].append(confusion)
            found[name]["itiou"] += itious(segmented.maps[0], target, (_TAU,), IGNORE)
        return found

    def rows(self, results: Sequence[Result]) -> list[Row]:
        options, rows = self.setting.options, []
        for name in self.scores:
            for place, layer in enumerate(self.values):
                confusions = [each[name]["confusions"][place] for each in results]
                # The published numbers are those of the last layer.
                compared = options.k is None and layer == self.setting.depth
                rows += score_rows(self.setting, name, confusions, options.zeta, layer, compared=compared)
                rows.append(itiou_row(name, [each[name]["itiou"][place] for each in results], at=layer))
        return rows
