"""A map against the mask of an object, in plain numbers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.experiments.evaluate.study import Result

__all__ = ["localized"]


def localized(found: Tensor, mask: Tensor) -> Result:
    """A map in 0..1 against the mask of an object.

    Args:
        found: [1, 1, H, W].
        mask: bool, of the image in its own size.

    Returns:
        "confusion", entries [true, found, pixels] with 0 the background, and "precision": the average precision of
        the map over the object and of its complement over the background together.
    """
    values = found[0, 0].cpu().double()
    truth = F.interpolate(mask[None, None].float(), size=values.shape, mode="nearest-exact")[0, 0] > 0.5
    foreground = values > values.mean()
    pixels = torch.bincount((2 * truth + foreground.long()).flatten(), minlength=4).tolist()
    confusion = [[true, guess, pixels[2 * true + guess]] for true in (0, 1) for guess in (0, 1)]
    precision = _average_precision(torch.stack([1 - values, values]), torch.stack([~truth, truth]))
    return {"confusion": [entry for entry in confusion if entry[2]], "precision": precision}


def _average_precision(scores: Tensor, positive: Tensor) -> float:
    order = scores.flatten().argsort(descending=True)
    scores, hits = scores.flatten()[order], positive.flatten()[order].double().cumsum(0)
    last = torch.cat([scores[1:] != scores[:-1], torch.ones(1, dtype=torch.bool)])  # of every threshold
    hits, seen = hits[last], last.nonzero()[:, 0] + 1
    steps = hits.diff(prepend=hits.new_zeros(1))
    return float((hits / seen * steps).sum() / hits[-1])
