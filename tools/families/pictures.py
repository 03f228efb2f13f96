"""Which part of a picture every token was made of, by the gradient of the stream to the pixels, against the layout."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

MOST = 120
"""More tokens than this are not looked at one by one."""


def wrong_layout(stream: Tensor, pixels: Tensor, layout: Any) -> str:
    """What is wrong with a layout; empty if tokens stand where it says.

    Args:
        stream: [B, n, d], as it enters the first block, in a graph with the pixels.
        pixels: [B, C, H, W].
        layout: with ``tokens``, ``prefix`` and ``grid``.
    """
    n = stream.shape[1]
    if layout.tokens != n:
        return f"the layout has {layout.tokens} tokens, the stream {n}"
    if layout.grid is None or n > MOST:
        return ""
    seen = torch.stack([_pixels_of(stream[0, token], pixels)[0].square().sum(0) for token in range(n)])
    rows, columns = layout.grid
    patches = seen[list(layout.patches)]
    others = seen[sorted(set(range(n)) - set(layout.patches))]
    if others.numel() and others.max() > 0:
        return "a token outside the grid sees pixels"
    cells = F.adaptive_avg_pool2d(patches[:, None], layout.grid)[:, 0].flatten(1)
    if (cells.sum(1) == 0).any():
        return "a patch of the grid sees no pixels"
    shares = cells / cells.sum(1, keepdim=True)
    if shares.amax(1).mean() > 0.9:  # each sees one cell
        wrong = (shares.argmax(1) != torch.arange(rows * columns)).sum().item()
        return f"{wrong} of {rows * columns} patches stand elsewhere" if wrong else ""
    return _order_of_centres(shares, rows, columns)


def _order_of_centres(shares: Tensor, rows: int, columns: int) -> str:
    """Where patches overlap, as behind convolutions, their centres still go along with rows and columns."""
    places = torch.arange(rows * columns)
    for name, place, size in (("row", places // columns, rows), ("column", places % columns, columns)):
        centres = shares @ place.to(shares)
        if size > 1 and torch.corrcoef(torch.stack([centres, place.to(shares)]))[0, 1] < 0.5:
            return f"patches do not go along with the {name}s of the grid"
    return ""


def _pixels_of(token: Tensor, pixels: Tensor) -> Tensor:
    weights = torch.randn(token.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64).to(token)
    (gradient,) = torch.autograd.grad((token * weights).sum(), pixels, retain_graph=True, allow_unused=True)
    return torch.zeros_like(pixels) if gradient is None else gradient
