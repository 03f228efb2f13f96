"""AOPC and log-odds: how much of its probability the predicted class loses (Table 5)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from captum_ultra.experiments.evaluate.rows import Row
from captum_ultra.experiments.evaluate.token_tm.data import Sample
from captum_ultra.experiments.evaluate.token_tm.published import published_probability
from captum_ultra.experiments.evaluate.token_tm.removal import STEPS, of_probabilities, probabilities_of
from captum_ultra.experiments.evaluate.token_tm.study import Result, TokenTMStudy, label

__all__ = ["ProbabilityStudy"]

_ORDER = "positive"


class ProbabilityStudy(TokenTMStudy):
    """The probability p of the explained class, and p_k with the most important pixels black (Table 5).

    AOPC is the mean of p - p_k over the steps and images, the log-odds that of ln(p_k / p).
    """

    title = "probability under perturbation"
    orders = (_ORDER,)

    @property
    def protocol(self) -> str:
        return (
            f"the {' and the '.join(self.setting.explained)} class; {STEPS[0]:g} to {STEPS[-1]:g} of the pixels black, "
            "the most important first; means of p - p_k (AOPC) and ln(p_k / p) (log-odds)"
        )

    def measure(self, x: Tensor, sample: Sample, logits: Tensor, number: int) -> Result:
        by_class: dict[int, Result] = {}
        for target in self.explained_classes(sample, logits).values():
            if target not in by_class:
                maps = self.maps(x, target, number)
                by_class[target] = {
                    name: probabilities_of(self.removed(x, found, target), _ORDER) for name, found in maps
                }
        return {each: by_class[target] for each, target in self.explained_classes(sample, logits).items()}

    def rows(self, results: Sequence[Result]) -> list[Row]:
        options, rows = self.setting.options, []
        for explained in self.setting.explained:
            backbone = self.setting.backbone if explained == "predicted" else None
            for name in results[0][explained]:
                found = of_probabilities([each[explained][name] for each in results], _ORDER)
                for metric, score in (("AOPC", "aopc"), ("log-odds", "log_odds")):
                    known = published_probability(options.data, backbone, name, metric)
                    measured = found.score(score, _ORDER)
                    rows.append(Row(label(name), self.named(explained, metric), measured, known, unit="", digits=3))
        return rows

    def notes(self) -> list[str]:
        return ["The paper says ViT-B and ViT-L; patches of 16 pixels and ImageNet's weights are assumed."]
