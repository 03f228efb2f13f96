"""AOPC and log-odds: how much of its probability the predicted class loses (Table 5)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ultra.experiments.evaluate.rows import Row
from captum_ultra.experiments.evaluate.token_tm.data import Sample
from captum_ultra.experiments.evaluate.token_tm.measures import STEPS
from captum_ultra.experiments.evaluate.token_tm.published import published_probability
from captum_ultra.experiments.evaluate.token_tm.study import Result, TokenTMStudy, label
from captum_ultra.experiments.intervals import bootstrap

__all__ = ["ProbabilityStudy"]


class ProbabilityStudy(TokenTMStudy):
    """The probability p of the explained class, and p_k with the most important pixels black (Table 5).

    AOPC is the mean of p - p_k over the steps and images, the log-odds that of ln(p_k / p).
    """

    title = "probability under perturbation"

    @property
    def protocol(self) -> str:
        return (
            f"the {' and the '.join(self.setting.explained)} class; {STEPS[0]:g} to {STEPS[-1]:g} of the pixels black, "
            "the most important first; means of p - p_k (AOPC) and ln(p_k / p) (log-odds)"
        )

    def measure(self, x: Tensor, sample: Sample, logits: Tensor, number: int) -> Result:
        before, result = logits.float().log_softmax(-1).cpu(), Result()
        by_class: dict[int, Result] = {}
        for each, target in self.explained_classes(sample, logits).items():
            if target not in by_class:
                after = {
                    name: self.removed(x, found, ("positive",))["positive"][:, target].tolist()
                    for name, found in self.maps(x, target, number)
                }
                by_class[target] = {"log p": float(before[target]), "log p_k": after}
            result[each] = by_class[target]
        return result

    def rows(self, results: Sequence[Result]) -> list[Row]:
        options, backbone, rows = self.setting.options, self.setting.backbone, []
        for explained in self.setting.explained:
            images = [each[explained] for each in results]
            before = torch.tensor([each["log p"] for each in images], dtype=torch.float64)[:, None]
            for name in images[0]["log p_k"]:
                after = torch.tensor([each["log p_k"][name] for each in images], dtype=torch.float64)
                values = {"AOPC": before.exp() - after.exp(), "log-odds": after - before}
                for metric, each in values.items():
                    compared = backbone if explained == "predicted" else None
                    known = published_probability(options.data, compared, name, metric)
                    found = bootstrap(each.mean(1))
                    rows.append(Row(label(name), self.named(explained, metric), found, known, unit="", digits=3))
        return rows

    def notes(self) -> list[str]:
        return ["The paper says ViT-B and ViT-L; patches of 16 pixels and ImageNet's weights are assumed."]
