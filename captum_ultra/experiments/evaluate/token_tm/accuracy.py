"""Perturbation accuracy: what the classifier still gets right as pixels become black (Tables 2 to 4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_ultra.experiments.evaluate.rows import Row, percent
from captum_ultra.experiments.evaluate.token_tm.data import Sample, label_of
from captum_ultra.experiments.evaluate.token_tm.published import published_area
from captum_ultra.experiments.evaluate.token_tm.removal import ORDERS, STEPS, flags_of, of_flags
from captum_ultra.experiments.evaluate.token_tm.study import Result, TokenTMStudy, label
from captum_ultra.intervals import bootstrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PROTOCOL", "AccuracyStudy"]

PROTOCOL = (
    f"{STEPS[0]:g} to {STEPS[-1]:g} of the pixels black, the least (negative) or the most important (positive) first; "
    "area under the accuracy against the label, times 100"
)


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
                by_class[target] = {name: flags_of(self.removed(x, found, target, truth)) for name, found in maps}
            result[each] = by_class[target]
        return result

    def rows(self, results: Sequence[Result]) -> list[Row]:
        setting = self.setting
        unperturbed = torch.tensor([each["unperturbed"] for each in results], dtype=torch.float64)
        rows = [Row("unperturbed images", "accuracy", percent(bootstrap(unperturbed)))]
        for explained in setting.explained:
            compared = explained == "predicted" and setting.compares_areas
            for name in results[0][explained]:
                found = of_flags([each[explained][name] for each in results])
                rows += [
                    Row(
                        label(name), self.named(explained, f"{order} AUC"), found.score("accuracy_auc", order),
                        published_area(setting.options.data, compared, name, order), unit="",
                    )
                    for order in ORDERS
                ]  # fmt: skip
        return rows

    def notes(self) -> list[str]:
        return [
            "Which model the published areas belong to is not known here. Those of ImageNet stand beside DeiT-B (the "
            "paper's ablation of ViT-B has others), those of CIFAR beside models of that size. Those of the target "
            "class are not known here."
        ]

    def figure(self, rows: Sequence[Row], results: Sequence[Result]) -> Figure:
        """The accuracy at every step, of the class that is explained first."""
        from captum_ultra.insights.faithfulness_curves import faithfulness_curves_figure

        explained = self.setting.explained[0]
        curves = {label(name): of_flags([each[explained][name] for each in results]) for name in results[0][explained]}
        return faithfulness_curves_figure(curves, "accuracy", ORDERS)
