"""Padding is told by attention, on whichever side it stands, and is not taken for causality or packing."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from captum_ultra.relevance.padding import padding_in

N = 6
CAUSAL = torch.ones(N, N, dtype=torch.bool).tril()
LEFT, RIGHT, MIDDLE = torch.tensor([[0, 0, 1, 1, 1, 1], [1, 1, 1, 1, 0, 0], [1, 1, 0, 1, 1, 1]]).bool()
SEGMENTS = torch.block_diag(torch.ones(2, 2), torch.ones(4, 4)).bool()


def unmasked(attended: Tensor) -> Tensor:
    """Rows that are masked altogether look everywhere, as softmax over equal scores does."""
    return attended | ~attended.any(1, keepdim=True)


@pytest.mark.parametrize(
    ("attended", "seen"),
    [
        (CAUSAL & RIGHT, RIGHT), (CAUSAL & LEFT, LEFT), (unmasked(CAUSAL & LEFT), LEFT), (CAUSAL & MIDDLE, MIDDLE),
        (RIGHT.expand(N, N), RIGHT), (LEFT.expand(N, N), LEFT), (MIDDLE.expand(N, N), MIDDLE),
        (CAUSAL, RIGHT | LEFT), (torch.ones(N, N).bool(), RIGHT | LEFT), (SEGMENTS, RIGHT | LEFT),
        (SEGMENTS & CAUSAL, RIGHT | LEFT), (CAUSAL.triu(-1), RIGHT | LEFT), (~torch.eye(N).bool(), RIGHT | LEFT),
        (CAUSAL.triu(-1) & RIGHT, RIGHT), (unmasked(CAUSAL.triu(-1) & LEFT), LEFT),
    ],
)  # fmt: skip
def test_padding_of_masks(attended: Tensor, seen: Tensor) -> None:
    together = torch.stack([attended, CAUSAL])
    assert torch.equal(padding_in(together), torch.stack([~seen, torch.zeros(N, dtype=torch.bool)]))
