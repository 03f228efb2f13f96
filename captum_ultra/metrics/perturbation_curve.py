"""Perturbation metrics of explanations of a class: accuracy AUC, AOPC, log-odds, insertion and deletion."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from captum_ultra.metrics.class_curve import ClassCurveMetric, log_probability
from captum_ultra.perturbation.class_curves import area, class_log_probability, log_odds_change, probability_drop
from captum_ultra.perturbation.class_test import INSERTION_STEPS, REMOVAL_STEPS

__all__ = ["AOPC", "DeletionAUC", "InsertionAUC", "LogOdds", "PerturbationAUC"]


class PerturbationAUC(ClassCurveMetric):
    """The area under the accuracy while pixels are removed, times 100 (TokenTM, arXiv 2403.14552, tables 2 to 4).

    Called with ``scores`` [B, S, K], logits or probabilities at every step, and the true classes [B].
    Low is good when the most relevant pixels were removed first, high when the least relevant were. The area,
    by trapezoid, is not divided by the steps' range: over 0.1 .. 0.9 it is at most 80.

    Args:
        steps: as in :class:`ClassCurveMetric`, at least two.
        **kwargs: further arguments of ``torchmetrics.Metric``.

    Raises:
        ValueError: for steps; on update, for shapes and classes that do not fit.

    Example:
        >>> import torch
        >>> metric = PerturbationAUC(steps=(0.1, 0.5, 0.9))
        >>> scores = torch.tensor([[[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]]])
        >>> round(metric(scores, torch.tensor([1])).item(), 6), metric.curve().tolist()
        (60.0, [1.0, 1.0, 0.0])
    """

    quantity = "accuracy"

    def __init__(self, steps: Sequence[float] = REMOVAL_STEPS, **kwargs: Any) -> None:
        super().__init__(steps, **kwargs)
        _needs_area(self.steps)

    def update(self, scores: Tensor, labels: Tensor) -> None:
        """Count scores [B, S, K] of images with the true classes [B]."""
        self._check_scores(scores, labels)
        self.curves.append((scores.argmax(-1) == labels[:, None]).double())

    def score(self, curves: Tensor) -> Tensor:
        return 100 * area(curves, self.steps)


class _DropMetric(ClassCurveMetric):
    """A class that is called with scores of the whole and of the changed images."""

    def __init__(self, steps: Sequence[float] = REMOVAL_STEPS, *, logits: bool = True, **kwargs: Any) -> None:
        super().__init__(steps, **kwargs)
        self.logits = logits

    def update(self, clean: Tensor, scores: Tensor, target: Tensor | None = None) -> None:
        """Count scores [B, K] of whole and [B, S, K] of changed images, and explained classes [B]."""
        if target is None:
            if clean.dim() != 2:
                raise ValueError(f"clean scores must be [B, K], got {list(clean.shape)}")
            target = clean.argmax(-1)
        self._check_scores(scores, target, clean)
        before, after = (log_probability(each, target, self.logits) for each in (clean, scores))
        self.curves.append(self._change(before, after))

    def score(self, curves: Tensor) -> Tensor:
        return curves.mean(1)

    def _change(self, before: Tensor, after: Tensor) -> Tensor:
        raise NotImplementedError


class AOPC(_DropMetric):
    """Mean over steps of p - p_k, the probability of the explained class that is lost (TokenTM, table 5).

    Called with the scores of whole images [B, K], of changed ones [B, S, K], and the explained classes [B],
    by default those predicted for the whole images. High is good when the most relevant pixels were removed
    first.

    Args:
        steps: as in :class:`ClassCurveMetric`.
        logits: whether scores are logits; False for probabilities.
        **kwargs: further arguments of ``torchmetrics.Metric``.

    Raises:
        ValueError: for steps; on update, for shapes, classes and probabilities that do not fit.

    Example:
        >>> import torch
        >>> metric = AOPC(steps=(0.2, 0.6), logits=False)
        >>> metric(torch.tensor([[0.9, 0.1]]), torch.tensor([[[0.5, 0.5], [0.3, 0.7]]]))
        tensor(0.5000, dtype=torch.float64)
    """

    quantity = "drop"

    def _change(self, before: Tensor, after: Tensor) -> Tensor:
        return probability_drop(before, after)


class LogOdds(_DropMetric):
    """Mean over steps of ln(p_k / p) of the explained class (TokenTM, table 5).

    Called as :class:`AOPC`. Low (far below zero) is good when the most relevant pixels were removed first.

    Args:
        steps: as in :class:`ClassCurveMetric`.
        logits: whether scores are logits; False for probabilities.
        **kwargs: further arguments of ``torchmetrics.Metric``.

    Raises:
        ValueError: for steps; on update, for shapes, classes and probabilities that do not fit.

    Example:
        >>> import torch
        >>> metric = LogOdds(steps=(0.2, 0.6), logits=False)
        >>> metric(torch.tensor([[0.8, 0.2]]), torch.tensor([[[0.8, 0.2], [0.4, 0.6]]]))
        tensor(-0.3466, dtype=torch.float64)
    """

    quantity = "log_odds"

    def _change(self, before: Tensor, after: Tensor) -> Tensor:
        return log_odds_change(before, after)


class _ProbabilityAUC(ClassCurveMetric):
    """The area under the probability of a class."""

    quantity = "probability"
    ends = True

    def __init__(self, steps: Sequence[float] = INSERTION_STEPS, *, logits: bool = True, **kwargs: Any) -> None:
        super().__init__(steps, **kwargs)
        _needs_area(self.steps)
        self.logits = logits

    def update(self, scores: Tensor, target: Tensor) -> None:
        """Count scores [B, S, K] at every step, and the explained classes [B]."""
        self._check_scores(scores, target)
        if self.logits:
            self.curves.append(class_log_probability(scores, target).exp())
            return
        if bool(((scores < 0) | (scores > 1 + 1e-6)).any()):
            raise ValueError("probabilities must lie in 0..1; give logits and leave logits=True")
        index = target[:, None, None].expand(-1, len(self.steps), 1)
        self.curves.append(scores.double().gather(-1, index)[..., 0])

    def score(self, curves: Tensor) -> Tensor:
        return area(curves, self.steps)


class InsertionAUC(_ProbabilityAUC):
    """The area under the probability of the class while its most relevant pixels are put into a black image.

    Called with ``scores`` [B, S, K] at every step and the explained classes [B]. High is good.

    Args:
        steps: shares of the pixels put in, 0 and 1 included, at least two.
        logits: whether scores are logits; False for probabilities.
        **kwargs: further arguments of ``torchmetrics.Metric``.

    Raises:
        ValueError: for steps; on update, for shapes, classes and probabilities that do not fit.

    Source:
        RISE (Petsiuk et al., BMVC 2018), section 4.2, with a black image in place of a blurred one.

    Example:
        >>> import torch
        >>> metric = InsertionAUC(steps=(0, 0.5, 1), logits=False)
        >>> metric(torch.tensor([[[0.5, 0.5], [0.1, 0.9], [0.0, 1.0]]]), torch.tensor([1]))
        tensor(0.8250, dtype=torch.float64)
    """

    higher_is_better = True


class DeletionAUC(_ProbabilityAUC):
    """The area under the probability of the class while its most relevant pixels become black.

    Called as :class:`InsertionAUC`. Low is good.

    Args:
        steps: shares of the pixels removed, 0 and 1 included, at least two.
        logits: whether scores are logits; False for probabilities.
        **kwargs: further arguments of ``torchmetrics.Metric``.

    Raises:
        ValueError: for steps; on update, for shapes, classes and probabilities that do not fit.

    Source:
        RISE (Petsiuk et al., BMVC 2018), section 4.2.

    Example:
        >>> import torch
        >>> metric = DeletionAUC(steps=(0, 0.5, 1))
        >>> metric(torch.tensor([[[0.0, 9.0], [0.0, 0.0], [0.0, -9.0]]]), torch.tensor([1]))
        tensor(0.5000, dtype=torch.float64)
    """

    higher_is_better = False


def _needs_area(steps: tuple[float, ...]) -> None:
    if len(steps) < 2:
        raise ValueError(f"steps={steps}: an area needs at least two steps")
