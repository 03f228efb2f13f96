"""Small vision models whose tokens stand in one order or another."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.families.zoo.oddities import WIDTH, Block

PATCH = 8


class Pictures(nn.Module):
    """Patches of 8 x 8 pixels by a convolution or by cutting and a linear layer, put in an order, through blocks."""

    def __init__(self, order: str = "rows", cut: bool = False, before: int = 1, behind: int = 0) -> None:
        super().__init__()
        self.order, self.cut = order, cut
        self.convolution = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.linear = nn.Linear(3 * PATCH * PATCH, WIDTH)
        self.elsewhere = nn.Conv2d(3, 4, 1)
        self.before, self.behind = (nn.Parameter(torch.empty(1, count, WIDTH)) for count in (before, behind))
        self.latents = nn.Parameter(torch.empty(1, 24, WIDTH))
        self.blocks = nn.ModuleList([Block() for _ in range(2)])
        self.head = nn.Linear(WIDTH, 5)

    def forward(self, x: Tensor) -> Tensor:
        grid = self._cut(x) if self.cut else self.convolution(x)
        if self.order == "a convolution elsewhere":
            grid = grid + self.elsewhere(x.mean((2, 3), keepdim=True)).mean()
        patches = ordered(grid, self.order)
        if self.order == "learned latents":  # as many as make a square
            queries = self.latents.expand(len(x), -1, -1)
            patches = F.scaled_dot_product_attention(queries[:, None], patches[:, None], patches[:, None])[:, 0]
        parts = [self.before.expand(len(x), -1, -1), patches, self.behind.expand(len(x), -1, -1)]
        tokens = torch.cat(parts, 1)
        if self.order == "CLS in the middle":
            tokens = torch.cat([patches[:, :4], parts[0], patches[:, 4:]], 1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.head(tokens.mean(1))

    def _cut(self, x: Tensor) -> Tensor:
        rows, columns = x.shape[2] // PATCH, x.shape[3] // PATCH
        return (
            self.linear(F.unfold(x, PATCH, stride=PATCH).transpose(1, 2)).transpose(1, 2).unflatten(2, (rows, columns))
        )


def ordered(grid: Tensor, order: str) -> Tensor:
    """Patches [B, n, d] of a grid [B, d, rows, columns]."""
    if order == "columns":
        return grid.transpose(2, 3).flatten(2).transpose(1, 2)
    if order == "merged two by two":
        groups = grid.unflatten(2, (-1, 2)).unflatten(4, (-1, 2))  # B d R 2 C 2
        return groups.permute(0, 2, 4, 3, 5, 1).flatten(1, 4)
    flat = grid.flatten(2).transpose(1, 2)
    if order == "backwards":
        return flat.flip(1)
    if order == "snake":
        rows = grid.permute(0, 2, 3, 1)
        return torch.stack([row.flip(1) if i % 2 else row for i, row in enumerate(rows.unbind(1))], 1).flatten(1, 2)
    if order == "two inner patches swapped":
        places = list(range(flat.shape[1]))
        places[3], places[6] = places[6], places[3]
        return flat[:, places]
    if order == "shuffled at each run":
        return flat[:, torch.randperm(flat.shape[1])]
    if order == "some dropped":
        return flat[:, ::2]
    if order == "mixed beforehand":
        return flat + flat.mean(1, keepdim=True)
    return flat
