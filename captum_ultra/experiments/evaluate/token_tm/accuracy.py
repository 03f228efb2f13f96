"""Perturbation accuracy: what the classifier still gets right as pixels become black (Tables 2 to 4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_ultra.experiments.evaluate.rows import Row, percent
from captum_ultra.experiments.evaluate.token_tm.data import Sample, label_of
from captum_ultra.experiments.evaluate.token_tm.measures import ORDERS, STEPS, area
from captum_ultra.experiments.evaluate.token_tm.published import published_area
from captum_ultra.experiments.evaluate.token_tm.study import Result, TokenTMStudy, label
from captum_ultra.experiments.intervals import Interval, bootstrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PROTOCOL", "AccuracyStudy", "area_of", "right"]

PROTOCOL = (
    f"{STEPS[0]:g} to {STEPS[-1]:g} of the pixels black, the least (negative) or the most important (positive) first; "
    "area under the accuracy against the label, times 100"
)


def right(log_probabilities: Mapping[str, Tensor], truth: int) -> Result:
    """By order, whether the label wins at every step, 0 or 1, out of log-probabilities [S, K]."""
    return {order: (each.argmax(-1) == truth).int().tolist() for order, each in log_probabilities.items()}


def area_of(flags: Sequence[Sequence[int]]) -> Interval:
    """The area under the accuracy of images [N][S], times 100, with its interval over images."""
    return percent(bootstrap(area(torch.tensor(flags, dtype=torch.float64))))


class AccuracyStudy(TokenTMStudy):
    """The accuracy under black pixels, the least and the most important first (Tables 2 to 4)."""

    title = "accuracy under perturbation"
    explains = ("predicted", "target")
    needs_label = True

    @property
    def protocol(self) -> str:
        return f"the {' and the '.join(self.setting.explained)} class explained; {PROTOCOL}"

    def measure(self, x: Tensor, sample: Sample, logits: Tensor, number: int) -> Result:
        truth = label_of(sample)
        result: Result = {"unperturbed": int(int(logits.argmax()) == truth)}
        by_class: dict[int, Result] = {}  # for most images both are one class
        for each, target in self.explained_classes(sample, logits).items():
            if target not in by_class:
                maps = self.maps(x, target, number)
                by_class[target] = {name: right(self.removed(x, found), truth) for name, found in maps}
            result[each] = by_class[target]
        return result

    def rows(self, results: Sequence[Result]) -> list[Row]:
        setting = self.setting
        unperturbed = torch.tensor([each["unperturbed"] for each in results], dtype=torch.float64)
        rows = [Row("unperturbed images", "accuracy", percent(bootstrap(unperturbed)))]
        for explained in setting.explained:
            for name in results[0][explained]:
                for order in ORDERS:
                    flags = [each[explained][name][order] for each in results]
                    compared = explained == "predicted" and setting.compares_areas
                    known = published_area(setting.options.data, compared, name, order)
                    rows.append(Row(label(name), self.named(explained, f"{order} AUC"), area_of(flags), known, unit=""))
        return rows

    def notes(self) -> list[str]:
        return [
            "Which model the published areas belong to is not known here. Those of ImageNet stand beside DeiT-B (the "
            "paper's ablation of ViT-B has others), those of CIFAR beside models of that size. Those of the target "
            "class are not known here."
        ]

    def figure(self, rows: Sequence[Row], results: Sequence[Result]) -> Figure:
        from captum_ultra.insights.evaluation import curves_figure

        return curves_figure(self.curves(results), "share of black pixels")

    def curves(self, results: Sequence[Result]) -> list[Row]:
        """The accuracy at every step, in percent."""
        rows = []
        for explained in self.setting.explained:
            for name in results[0][explained]:
                for order in ORDERS:
                    flags = torch.tensor([each[explained][name][order] for each in results], dtype=torch.float64)
                    rows += [
                        Row(label(name), self.named(explained, order), percent(bootstrap(column)), at=step)
                        for step, column in zip(STEPS, flags.T, strict=True)
                    ]
        return rows
