"""What one map of one image is worth, in plain numbers."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.experiments.evaluate.study import Result

__all__ = ["ORDERS", "STEPS", "area", "localized", "log_probabilities"]

STEPS = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))
ORDERS = ("negative", "positive")


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


def log_probabilities(
    classify: Callable[[Tensor], Tensor], x: Tensor, found: Tensor, order: str, black: Tensor
) -> Tensor:
    """Log-probabilities [S, K] of an image whose pixels become black step by step.

    Args:
        classify: inputs [B, 3, H, W] -> logits [B, K].
        x: the input [1, 3, H, W].
        found: the map [1, 1, H, W].
        order: "positive" (the most important pixels first) or "negative" (the least important).
        black: a black pixel as the model reads it, [3, 1, 1].
    """
    ranked = found.flatten().argsort(descending=order == "positive", stable=True)
    rank = torch.empty_like(ranked).scatter_(0, ranked, torch.arange(len(ranked), device=ranked.device))
    counts = torch.tensor([int(step * len(ranked)) for step in STEPS], device=rank.device)
    gone = (rank < counts[:, None]).view(-1, 1, *x.shape[-2:])
    return classify(torch.where(gone, black, x)).float().log_softmax(-1).cpu()


def area(curves: Tensor) -> Tensor:
    """The area [...] under curves [..., S] over the steps, by trapezoids."""
    return torch.trapezoid(curves, torch.tensor(STEPS, dtype=curves.dtype), dim=-1)
