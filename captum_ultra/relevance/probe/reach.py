"""Which tokens a tensor of a run depends on, told by gradients to leaves of its graph."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from captum_ultra.relevance.pullback import recorded

__all__ = ["Rows", "gradients_to"]


class Rows:
    """A choice of tokens that splits those that may exchange something: the rows asked about, and all others.

    The division is random; of two special tokens, the first and the last, only every second choice keeps both on one
    side. Asked with its complement, a choice sees whatever passes between its sides, in either direction.

    Args:
        tokens: their number n.
        number: of the choice.
    """

    def __init__(self, tokens: int, number: int) -> None:
        self._generator = torch.Generator().manual_seed(number)
        self.asked = torch.rand(tokens, generator=self._generator) < 0.5
        self.asked[0] = True
        self.asked[1:][-1:] = number % 2 == 0
        if tokens > 1 and self.asked.all():
            self.asked[1] = False

    def complement(self) -> Rows:
        """The other tokens."""
        other = Rows(len(self.asked), 0)
        other.asked = ~self.asked
        return other

    def cotangent(self, of: Tensor, axis: int, sample: int | None = None) -> Tensor:
        """Random numbers at the rows asked about, zero elsewhere; of one sample of the leading axis, or of all."""
        rows = self._random(of, axis) * self.asked.to(of).view(_along(of, axis))
        kept = torch.zeros_like(of) + rows * self._random(of, -1 if axis % of.dim() != of.dim() - 1 else 0)
        if sample is not None:
            kept[torch.arange(len(kept), device=kept.device) != sample] = 0
        return kept

    def of_scores(self, scores: Tensor, row: int | None = None) -> Tensor:
        """A cotangent of scores [..., n, m]: differences of keys asked about, in the rows asked about or in one.

        What is added to all scores of a query changes no softmax (a maximum that is taken off): the signs of a row add
        up to zero, to the last bit.
        """
        keys = self.asked.nonzero()[:, 0]
        keys = keys[: len(keys) // 2 * 2] if row is None else keys[keys != row][: (len(keys) - 1) // 2 * 2]
        signs = torch.zeros(scores.shape[-1])
        signs[keys] = torch.tensor([1.0, -1.0]).repeat(len(keys) // 2)[
            torch.randperm(len(keys), generator=self._generator)
        ]
        rows = self.asked if row is None else torch.arange(len(self.asked)) == row
        of_rows = self._random(scores, -2) * rows.to(scores).view(_along(scores, -2))
        return torch.zeros_like(scores) + of_rows * signs.to(scores)

    def _random(self, of: Tensor, axis: int) -> Tensor:
        return torch.randn(of.shape[axis], generator=self._generator).to(of).view(_along(of, axis))

    def reach_others(self, gradient: Tensor, axis: int) -> bool:
        """Whether a gradient is anything else than zero in rows that were not asked about."""
        return _touches(gradient.movedim(axis, 0)[(~self.asked).to(gradient.device)])

    def reach_own(self, gradient: Tensor, axis: int) -> bool:
        """Whether a gradient is anything else than zero in the rows that were asked about."""
        return _touches(gradient.movedim(axis, 0)[self.asked.to(gradient.device)])


def _touches(gradient: Tensor) -> bool:
    """Whether anything arrives; numbers that are not finite are for others to complain of."""
    return bool(((gradient != 0) & gradient.isfinite()).any())


def _along(of: Tensor, axis: int) -> list[int]:
    shape = [1] * of.dim()
    shape[axis] = -1
    return shape


def gradients_to(leaves: Sequence[Tensor], of: Tensor, cotangent: Tensor) -> list[Tensor | None]:
    """Gradients with respect to leaves; None where nothing leads to one. The graph is kept."""
    if of.grad_fn is None:  # a constant, a leaf, or what an operation with a backward pass of its own works on
        return [cotangent if each is of else None for each in leaves]
    with recorded(of.device):
        return list(torch.autograd.grad(of, list(leaves), cotangent, retain_graph=True, allow_unused=True))
