"""What perturbation metrics of explanations of a class have in common: one curve an image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from captum_ultra.intervals import Interval, bootstrap, bootstrap_of
from captum_ultra.metrics.base import Metric
from captum_ultra.perturbation.class_curves import check_steps, class_log_probability

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["ClassCurveMetric", "log_probability"]


class ClassCurveMetric(Metric):
    """Keeps the curve of every image [S]; a subclass says what the curve is and what an image scores.

    ``compute()`` gives the mean score over images, a float64 scalar, NaN without any image.

    Args:
        steps: shares of the pixels in increasing order, at which the model was run.
        **kwargs: further arguments of ``torchmetrics.Metric``.

    Raises:
        ValueError: for steps out of range or order.
    """

    is_differentiable = False
    full_state_update = False

    # Said of the axis in a figure.
    quantity = ""
    # Whether 0 and 1 are possible steps.
    ends = False

    curves: list[Tensor]

    def __init__(self, steps: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.steps = check_steps(steps, self.ends)
        self.add_state("curves", [], dist_reduce_fx="cat")

    @abstractmethod
    def score(self, curves: Tensor) -> Tensor:
        """Of curves [N, S], float64 [N]."""

    def compute(self) -> Tensor:
        """The mean score over the images so far."""
        return self.per_image().mean()

    def per_image(self) -> Tensor:
        """The score of every image, float64 [N]."""
        return self.score(self._joined())

    def curve(self) -> Tensor:
        """Mean over images at every step, float64 [S]."""
        return self._joined().mean(0)

    def curve_interval(self, confidence: float = 0.95) -> Tensor:
        """Lower and upper end [2, S] of the curve's percentile interval over images; NaN for one image.

        Raises:
            ValueError: without any image.
        """
        return torch.stack(bootstrap_of(self._joined(), confidence=confidence)[1:])

    def interval(self, confidence: float = 0.95) -> Interval:
        """The mean score with its percentile interval over images drawn with replacement.

        Raises:
            ValueError: without any image.
        """
        return bootstrap(self.per_image().cpu(), confidence)

    def plot(self, val: Tensor | None = None, ax: Axes | None = None) -> tuple[Figure, Axes]:
        """The curve with its interval.

        Args:
            val: a curve [S] to draw instead of the metric's own, without an interval.
            ax: axes to draw into; new ones when None.

        Returns:
            The figure and its axes.

        Raises:
            ValueError: without any image, or for another number of steps.
        """
        from captum_ultra.insights.faithfulness_curves import curve_axes

        if val is None and not len(self._joined()):
            raise ValueError("no image was counted; call update first")
        mean = self.curve() if val is None else val
        if mean.shape != (len(self.steps),):
            raise ValueError(f"val {list(mean.shape)} must have one number for each of the {len(self.steps)} steps")
        low, high = self.curve_interval() if val is None else torch.full((2, len(self.steps)), torch.nan)
        return curve_axes(self.steps, mean, low, high, self.quantity, ax)

    def _joined(self) -> Tensor:
        """Curves [N, S]; one tensor after ranks were joined."""
        if isinstance(self.curves, Tensor):
            return self.curves.double()
        empty = torch.empty(0, len(self.steps), dtype=torch.float64)
        return torch.cat(self.curves).double() if self.curves else empty

    def _check_scores(self, scores: Tensor, target: Tensor, clean: Tensor | None = None) -> None:
        """[B, S, K] for the steps, classes [B], and [B, K] for the whole images."""
        if scores.dim() != 3 or scores.shape[1] != len(self.steps) or not scores.is_floating_point():
            raise ValueError(
                f"scores must be floating point [B, {len(self.steps)}, K], one row a step, got {scores.dtype} "
                f"{list(scores.shape)}"
            )
        count, classes = len(scores), scores.shape[2]
        if target.is_floating_point() or target.dtype == torch.bool or target.shape != (count,):
            raise ValueError(f"classes must be integers [{count}], got {target.dtype} {list(target.shape)}")
        if count and not (int(target.min()) >= 0 and int(target.max()) < classes):
            raise ValueError(f"classes {int(target.min())} .. {int(target.max())} must be among 0 .. {classes - 1}")
        if clean is not None and (clean.shape != (count, classes) or not clean.is_floating_point()):
            raise ValueError(f"clean scores must be floating point [{count}, {classes}], got {list(clean.shape)}")
        for each in (scores, clean):
            if each is not None and not bool(each.isfinite().all()):
                raise ValueError("scores hold values that are not finite")


def log_probability(scores: Tensor, target: Tensor, logits: bool) -> Tensor:
    """ln p of the targets [B], float64 [B, ...], of logits or probabilities [B, ..., K].

    Raises:
        ValueError: for probabilities outside (0, 1], whose logarithm says nothing.
    """
    if logits:
        return class_log_probability(scores, target)
    index = target.view(-1, *[1] * (scores.dim() - 1)).expand(*scores.shape[:-1], 1)
    chosen = scores.double().gather(-1, index)[..., 0]
    if bool(((chosen <= 0) | (chosen > 1 + 1e-6)).any()):
        raise ValueError("probabilities must lie above 0 and not above 1; give logits and leave logits=True")
    return chosen.log()
