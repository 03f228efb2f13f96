"""Does the map of a class lie on the object? Pixel accuracy, mIoU and mAP."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_ultra.attr.presentation import min_max
from captum_ultra.intervals import Interval, bootstrap, bootstrap_of
from captum_ultra.metrics.base import Metric

__all__ = ["LocalizationScore", "localization_average_precision", "localization_confusion"]


def localization_confusion(maps: Tensor, masks: Tensor) -> Tensor:
    """Pixels by truth and prediction, where a map predicts foreground above its own mean.

    A constant map predicts background everywhere.

    Args:
        maps: [B, H, W] or [B, 1, H, W].
        masks: bool [B, H, W], true on the object.

    Returns:
        int64 [B, 2, 2]: true class (background, foreground) by predicted class.

    Raises:
        TypeError, ValueError: for shapes and kinds that do not fit, or maps that are not finite.

    Source:
        Chefer et al. (CVPR 2021), segmentation test; TokenTM (arXiv 2403.14552), table 1.

    Example:
        >>> mask = torch.tensor([[[True, False], [False, False]]])
        >>> localization_confusion(torch.tensor([[[0.9, 0.8], [0.0, 0.1]]]), mask)
        tensor([[[2, 1],
                 [0, 1]]])
    """
    values = _check(maps, masks).double().flatten(1)
    # The mean of equal numbers may be rounded to just below them.
    varies = values.amax(1, keepdim=True) > values.amin(1, keepdim=True)
    found, true = (values > values.mean(1, keepdim=True)) & varies, masks.flatten(1)
    both = [(a & b).sum(1) for a in (~true, true) for b in (~found, found)]
    return torch.stack(both, dim=1).view(-1, 2, 2)


def localization_average_precision(maps: Tensor, masks: Tensor) -> Tensor:
    """Average precision of the stack [1 - S, S] as a score of every pixel's true class.

    S is the map scaled to 0..1. The 2 H W entries of the stack are one ranking; those that name the true
    class of their pixel are the positives, which half of them are. A constant map says background everywhere
    and scores b^2 + (1 - b) / 2 for a share b of the background, so compare with that of a control.

    Args:
        maps: [B, H, W] or [B, 1, H, W].
        masks: bool [B, H, W], true on the object.

    Returns:
        float64 [B], in (0, 1].

    Raises:
        TypeError, ValueError: as :func:`localization_confusion` does.

    Source:
        As :func:`localization_confusion`. Precision is not interpolated, and entries of equal score count
        together, as in scikit-learn.

    Example:
        >>> mask = torch.tensor([[[True, False], [False, False]]])
        >>> localization_average_precision(torch.tensor([[[0.9, 0.0], [0.0, 0.0]]]), mask)
        tensor([1.], dtype=torch.float64)
    """
    scaled = min_max(_check(maps, masks).double()).flatten(1)
    scores = torch.cat([1 - scaled, scaled], dim=1)
    positive = torch.cat([~masks.flatten(1), masks.flatten(1)], dim=1)
    ordered, order = scores.sort(dim=1, descending=True)
    hits = positive.gather(1, order).long().cumsum(1)
    # Every entry sees the whole group of its equals.
    last = torch.searchsorted(-ordered, -ordered, right=True) - 1
    precision = hits.gather(1, last).double() / (last + 1)
    return (precision * positive.gather(1, order)).sum(1) / positive.sum(1)


class LocalizationScore(Metric):
    """Pixel accuracy, mIoU and mAP of maps against masks of the object (TokenTM, table 1).

    Called with ``maps`` [B, H, W] or [B, 1, H, W] and ``masks``, bool [B, H, W]. Foreground is where a map
    exceeds its own mean. ``compute()`` gives a dict of float64 scalars in 0..1, NaN without any image:

    - ``pixel_accuracy``: right pixels over all pixels of the set.
    - ``miou``: mean over background and foreground of the IoU of the pixels of the whole set. A class that no
      mask and no map has is left out.
    - ``map``: mean over images of :func:`localization_average_precision`.

    What every image gave is kept: 4 counts and a number an image, for :meth:`intervals`.

    Args:
        **kwargs: further arguments of ``torchmetrics.Metric``.

    Raises:
        TypeError, ValueError: on update, for shapes and kinds that do not fit, or maps that are not finite.

    Example:
        >>> metric = LocalizationScore()
        >>> mask = torch.tensor([[[True, False], [False, False]]])
        >>> found = metric(torch.tensor([[[0.9, 0.8], [0.0, 0.1]]]), mask)
        >>> {name: round(value.item(), 3) for name, value in found.items()}
        {'pixel_accuracy': 0.75, 'miou': 0.583, 'map': 0.854}
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    confusions: list[Tensor]
    precisions: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("confusions", [], dist_reduce_fx="cat")
        self.add_state("precisions", [], dist_reduce_fx="cat")

    def update(self, maps: Tensor, masks: Tensor) -> None:
        """Count a batch of maps [B, H, W] or [B, 1, H, W] and masks, bool [B, H, W]."""
        confusion, precision = localization_confusion(maps, masks), localization_average_precision(maps, masks)
        self.confusions.append(confusion)
        self.precisions.append(precision)

    def compute(self) -> dict[str, Tensor]:
        """The scores of all images so far."""
        per_image = self.per_image()
        if not len(per_image["map"]):
            return {name: torch.tensor(torch.nan, dtype=torch.float64) for name in ("pixel_accuracy", "miou", "map")}
        scores = _scores(self._joined()[0].double().mean(0, keepdim=True))[0]
        return {"pixel_accuracy": scores[0], "miou": scores[1], "map": per_image["map"].mean()}

    def per_image(self) -> dict[str, Tensor]:
        """The scores of every image by itself, float64 [N] each."""
        confusions, precisions = self._joined()
        scores = _scores(confusions.double())
        return {"pixel_accuracy": scores[:, 0], "miou": scores[:, 1], "map": precisions}

    def intervals(self, confidence: float = 0.95) -> dict[str, Interval]:
        """The scores with percentile intervals over images drawn with replacement.

        Of every draw the pixels are counted anew, as :meth:`compute` counts those of all images.

        Raises:
            ValueError: without any image.
        """
        confusions, precisions = self._joined()
        if not len(confusions):
            raise ValueError("no image was counted; call update first")
        found = torch.stack(bootstrap_of(confusions, _scores, confidence)).T.tolist()
        return {
            "pixel_accuracy": Interval(*found[0]),
            "miou": Interval(*found[1]),
            "map": bootstrap(precisions.cpu(), confidence),
        }

    def _joined(self) -> tuple[Tensor, Tensor]:
        """Confusions [N, 2, 2] and average precisions [N]; one tensor each after ranks were joined."""
        if not isinstance(self.confusions, list):
            return self.confusions, self.precisions.double()
        if not self.confusions:
            return torch.empty(0, 2, 2).long(), torch.empty(0).double()
        return torch.cat(self.confusions), torch.cat(self.precisions).double()


def _scores(confusions: Tensor) -> Tensor:
    """Pixel accuracy and mIoU, [R, 2], of confusions [R, 2, 2]."""
    hits, either = confusions.diagonal(dim1=1, dim2=2), confusions.sum(1) + confusions.sum(2)
    iou = hits / (either - hits)  # NaN for a class that nothing has
    return torch.stack([hits.sum(1) / confusions.sum((1, 2)), iou.nanmean(1)], dim=1)


def _check(maps: Tensor, masks: Tensor) -> Tensor:
    """Maps [B, H, W]."""
    if masks.dtype != torch.bool:
        raise TypeError(f"masks must be bool, true on the object, got {masks.dtype}")
    if not maps.is_floating_point():
        raise TypeError(f"maps must be floating point, got {maps.dtype}")
    flat = maps.squeeze(1) if maps.dim() == 4 and maps.shape[1] == 1 else maps
    if masks.dim() != 3 or flat.shape != masks.shape or not masks[:1].numel():
        raise ValueError(
            f"maps {list(maps.shape)} and masks {list(masks.shape)} must be [B, 1, H, W] or [B, H, W], and [B, H, W]: "
            "enlarge the maps to the masks"
        )
    if not bool(flat.isfinite().all()):
        raise ValueError("maps hold values that are not finite")
    return flat.detach()
