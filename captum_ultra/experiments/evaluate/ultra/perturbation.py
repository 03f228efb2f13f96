"""The perturbation test of latent tokens: by masking and by noise."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_ultra.experiments.evaluate.rows import Row
from captum_ultra.experiments.evaluate.ultra.published import published_perturbation
from captum_ultra.experiments.evaluate.ultra.study import Result, UltraSetting, UltraStudy
from captum_ultra.intervals import Interval
from captum_ultra.perturbation.latent_result import ORDERS, LatentPerturbationResult
from captum_ultra.perturbation.latent_test import SWEEP, LatentPerturbationTest

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PerturbationStudy"]

_MODES = ("mask", "noise")
_FRACTION = 0.5  # of the table; the paper does not state its own
_TOKENS = 10  # an image: the paper's k


class PerturbationStudy(UltraStudy):
    """Distances of latent tokens when relevant and irrelevant patches are perturbed (eq. 16), over their share.

    The table is that of the share nearest to one half.
    """

    title = "perturbation of patches"
    axis = "share of patches"
    expected = "between 0 and 1, both excluded"
    sweep = SWEEP

    def __init__(self, setting: UltraSetting) -> None:
        super().__init__(setting)
        self.tests = {
            (name, mode): LatentPerturbationTest(
                setting.model, setting.layer, self.values, score=score, mode=mode, tokens=_TOKENS,
                seed=setting.options.seed,
            )
            for name, score in self.scores.items() for mode in _MODES
        }  # fmt: skip
        self.fraction = min(self.values, key=lambda value: abs(value - _FRACTION))

    @classmethod
    def possible(cls, value: float) -> bool:
        return 0 < value < 1

    @property
    def protocol(self) -> str:
        return (
            f"{_TOKENS} random tokens an image, share {self.fraction:g} of the other patches; mask = zero in the "
            "normalised input, noise = + 0.3 N(0, 1); distance of the raw latent"
        )

    def measure(self, x: Tensor, target: Tensor, number: int) -> Result:
        found: Result = {name: {} for name in self.scores}
        for (name, mode), test in self.tests.items():
            found[name][mode] = test.measure(x[0], number).tolist()
        return found

    def rows(self, results: Sequence[Result]) -> list[Row]:
        rows = []
        for name, mode in self.tests:
            rows += self._rows_of(name, mode, self._result(results, name, mode))
        return rows

    def notes(self) -> list[str]:
        if self.setting.backbone is None:
            return []
        return ["The published distances are known here without their share of patches and score."]

    def figure(self, rows: Sequence[Row], results: Sequence[Result]) -> Figure:
        from captum_ultra.insights.perturbation import perturbation_figure

        panels = [self._result(results, name, mode) for name, mode in self.tests]
        return perturbation_figure(panels, [f"{name}, {mode}" for name, mode in self.tests])

    def _result(self, results: Sequence[Result], name: str, mode: str) -> LatentPerturbationResult:
        distances = torch.tensor([each[name][mode] for each in results], dtype=torch.float64)
        return LatentPerturbationResult(self.values, distances)

    def _rows_of(self, name: str, mode: str, result: LatentPerturbationResult) -> list[Row]:
        at, options, backbone = self.values.index(self.fraction), self.setting.options, self.setting.backbone
        rows = [
            _row(
                name, f"{mode}: {order}", result.curve[index, at], result.interval[:, index, at],
                published_perturbation(options.data, backbone, mode, order), self.fraction,
            )
            for index, order in enumerate(ORDERS)
        ]  # fmt: skip
        gap = result.difference[at], result.difference_interval[:, at]
        rows.append(_row(name, f"{mode}: positive minus negative", *gap, None, self.fraction))
        if result.area is not None and result.area_interval is not None:
            area = torch.tensor(result.area, dtype=torch.float64), result.area_interval
            rows.append(_row(name, f"{mode}: area between the curves", *area, None, None))
        return rows


def _row(name: str, metric: str, mean: Tensor, ends: Tensor, published: float | None, at: float | None) -> Row:
    return Row(name, metric, Interval(float(mean), float(ends[0]), float(ends[1])), published, at, unit="")
