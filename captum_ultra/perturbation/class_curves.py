"""Numbers of a class while pixels are changed step by step: pure functions of scores and curves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["area", "check_steps", "class_log_probability", "log_odds_change", "probability_drop"]


def check_steps(steps: Sequence[float], ends: bool) -> tuple[float, ...]:
    """Shares of pixels in increasing order; ``ends`` says whether 0 and 1 are possible.

    Raises:
        ValueError: says which shares are possible.
    """
    found = tuple(float(step) for step in steps)
    inside = all(0 <= step <= 1 if ends else 0 < step < 1 for step in found)
    if not found or not inside:
        limits = "from 0 to 1" if ends else "between 0 and 1, both excluded"
        raise ValueError(f"steps={tuple(steps)!r}: give shares of the pixels {limits}")
    if list(found) != sorted(set(found)):
        raise ValueError(f"steps={tuple(steps)!r} must increase")
    return found


def class_log_probability(logits: Tensor, target: Tensor) -> Tensor:
    """ln p of the target, float64 [B, ...], of logits [B, ..., K] and targets [B]; exact where p underflows.

    Example:
        >>> class_log_probability(torch.tensor([[0.0, 0.0]]), torch.tensor([1])).exp()
        tensor([0.5000], dtype=torch.float64)
    """
    index = target.to(logits.device).view(-1, *[1] * (logits.dim() - 1)).expand(*logits.shape[:-1], 1)
    return logits.double().log_softmax(-1).gather(-1, index)[..., 0]


def area(curves: Tensor, steps: Sequence[float]) -> Tensor:
    """The area under curves [..., S] over the steps, by trapezoid: float64 [...].

    It is not divided by the steps' range: over 0.1 .. 0.9 a curve that stays at 1 has an area of 0.8.

    Example:
        >>> area(torch.tensor([1.0, 0.5, 0.0]), (0.0, 0.5, 1.0))
        tensor(0.5000, dtype=torch.float64)
    """
    return torch.trapezoid(
        curves.double(), torch.tensor(list(steps), dtype=torch.float64, device=curves.device), dim=-1
    )


def probability_drop(clean: Tensor, changed: Tensor) -> Tensor:
    """p - p_k, [N, S], of ln p [N] and ln p_k [N, S]; its mean over the steps is the AOPC.

    Example:
        >>> probability_drop(torch.tensor([0.8]).log(), torch.tensor([[0.6, 0.1]]).log())
        tensor([[0.2000, 0.7000]])
    """
    return clean.exp()[:, None] - changed.exp()


def log_odds_change(clean: Tensor, changed: Tensor) -> Tensor:
    """ln(p_k / p), [N, S], of ln p [N] and ln p_k [N, S]; its mean over the steps is the log-odds score.

    Example:
        >>> log_odds_change(torch.tensor([0.0]), torch.tensor([[-1.0, -3.0]]))
        tensor([[-1., -3.]])
    """
    return changed - clean[:, None]
