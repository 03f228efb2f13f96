"""How the tokens of one run are laid out: which of them see which region of the picture.

Nothing is taken from a configuration or from a count of tokens: the gradient from the tokens that enter the first block
to the pixels tells where every token looks. Tokens that see nothing are no patches (CLS, registers), wherever they
stand; the others are patches if their regions form a grid, in whatever order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

__all__ = ["TokenLayout", "read_layout"]

# Channels times random pictures of which an estimate of a token's place is the mean: it is off by 0.02 patches.
_MEANS = 256
# How far from the middle of its row or column, in patches, a token may look.
_ASIDE, _UNEVEN = 0.3, 0.45


@dataclass(frozen=True)
class TokenLayout:
    """n tokens; of an image, ``prefix`` tokens (CLS, registers) and then a (rows, columns) grid of patches.

    Attributes:
        tokens: their number.
        prefix: tokens before the first patch.
        grid: rows and columns of patches; None for sequences, and where the patches form no grid.
        order: the patches' tokens, row by row of the picture, where they do not simply follow the prefix in this order.
        reason: why there is no grid.
    """

    tokens: int
    prefix: int = 0
    grid: tuple[int, int] | None = None
    order: tuple[int, ...] | None = field(default=None, repr=False)
    reason: str = field(default="the input is a sequence", repr=False, compare=False)

    @property
    def patches(self) -> list[int]:
        """The patches' tokens, row by row of the picture; everything behind the prefix if there is no grid."""
        if self.order is not None:
            return list(self.order)
        if self.grid is None:
            return list(range(self.prefix, self.tokens))
        return list(range(self.prefix, self.prefix + self.grid[0] * self.grid[1]))


def read_layout(stream: Tensor, pixels: Tensor) -> TokenLayout:
    """The layout of the tokens of a stream [B, n, d], as it enters the first block, of pictures [B, C, H, W].

    Args:
        stream: with a graph that leads to the pixels.
        pixels: a leaf of this graph.

    Example:
        >>> pixels = torch.rand(1, 3, 16, 24, requires_grad=True)
        >>> patches = torch.nn.Conv2d(3, 8, 8, 8)(pixels).flatten(2).transpose(1, 2)
        >>> read_layout(torch.cat([torch.zeros(1, 1, 8), patches], 1), pixels)
        TokenLayout(tokens=7, prefix=1, grid=(2, 3))
    """
    tokens = stream.shape[1]
    if not stream.requires_grad:
        return TokenLayout(tokens, reason="no gradient leads from its tokens to the pixels")
    try:
        eyes = _Eyes(stream, pixels)
    except RuntimeError as error:
        if "not implemented" not in str(error) and "does not require grad" not in str(error):
            raise
        return TokenLayout(tokens, reason=f"the way from the pixels to its tokens cannot be differentiated ({error})")
    layouts = [eyes.layout(sample) for sample in range(len(stream))]
    if any(each != layouts[0] for each in layouts):
        return TokenLayout(tokens, reason="its tokens look in different places of the samples of a batch")
    return layouts[0]


class _Eyes:
    """Where the tokens of every sample look.

    With J the token's Jacobian and e random signs of all pixels, the mean of (J e) (J (e f)) over channels and signs is
    that of f(pixel) over the squared entries of J: two backward passes make the product of J and a picture.

    Attributes:
        strength: how much a token sees [B, n].
        places: where (row, column) [B, n, 2], in pixels.
    """

    def __init__(self, stream: Tensor, pixels: Tensor) -> None:
        self._shape = pixels.shape[1:]
        device, (height, width) = pixels.device, pixels.shape[2:]
        rows = (torch.arange(height, device=device) + 0.5).view(-1, 1).expand(height, width)
        columns = (torch.arange(width, device=device) + 0.5).expand(height, width)
        self._coordinates = (rows, columns)
        self._dummy = torch.zeros_like(stream, requires_grad=True)
        (self._pulled,) = torch.autograd.grad(stream, pixels, self._dummy, create_graph=True)
        if not self._pulled.requires_grad:
            raise RuntimeError("it does not require grad")
        self._times = max(1, math.ceil(_MEANS / stream.shape[2]))
        self.strength, self.places = self._means([rows, columns])
        self._spreads: Tensor | None = None

    def layout(self, sample: int) -> TokenLayout:
        """The layout of one sample's tokens."""
        tokens, places = self.strength.shape[1], self.places[sample]
        seeing = (self.strength[sample] > 0).nonzero()[:, 0]
        if not len(seeing):
            return TokenLayout(tokens, reason="none of its tokens depends on the pixels")
        size = (float(self._shape[1]), float(self._shape[2]))
        found, ordered = seeing, _grid(places[seeing], size)
        if ordered is None:
            # A token that sees far more than most do is no patch: it holds something of all of them.
            spreads = self._spread()[sample, seeing]
            found = seeing[spreads <= 2 * spreads.median() + 1e-6]
            ordered = _grid(places[found], size)
        if ordered is None:
            reason = f"the regions that its {len(found)} patches see form no grid of rows and columns"
            return TokenLayout(tokens, int(seeing[0]), reason=reason)
        grid, order = ordered
        patches, prefix = found[order].tolist(), int(found[0])
        plain = patches == list(range(prefix, prefix + len(patches)))
        return TokenLayout(tokens, prefix, grid, None if plain else tuple(patches))

    def _spread(self) -> Tensor:
        """How far around its place a token sees [B, n], in pixels."""
        if self._spreads is None:
            _, squares = self._means([each.square() for each in self._coordinates])
            self._spreads = (squares - self.places.square()).clamp(min=0).sum(-1).sqrt()
        return self._spreads

    def _means(self, pictures: list[Tensor]) -> tuple[Tensor, Tensor]:
        """The sum of a token's squared Jacobian [B, n], and the means of k pictures [H, W] over it [B, n, k]."""
        generator = torch.Generator().manual_seed(0)
        shape = (1 + len(pictures), *self._dummy.shape[:2])
        total, *sums = torch.zeros(shape, dtype=torch.float64, device=self._dummy.device)
        for _ in range(self._times):
            signs = torch.randint(2, self._shape, generator=generator).to(self._pulled) * 2 - 1
            seen = self._pushed(signs)
            total += seen.square().sum(-1)
            for place, each in enumerate(pictures):
                sums[place] += (seen * self._pushed(signs * each.to(signs))).sum(-1)
        return total, torch.stack(sums, -1) / total.clamp(min=torch.finfo(torch.float64).tiny)[..., None]

    def _pushed(self, picture: Tensor) -> Tensor:
        """The Jacobian of each sample times a picture [C, H, W]: [B, n, d]."""
        tangent = picture.expand(self._pulled.shape).contiguous()
        (found,) = torch.autograd.grad(self._pulled, self._dummy, tangent, retain_graph=True)
        return found.double()


def _grid(places: Tensor, size: tuple[float, float]) -> tuple[tuple[int, int], Tensor] | None:
    """The grid over the whole picture that places [m, 2] form, and their order row by row; None if they form none."""
    count = len(places)
    for rows in range(1, count + 1):
        columns, rest = divmod(count, rows)
        if rest:
            continue
        by_row = places[:, 0].argsort().view(rows, columns)
        order = by_row.gather(1, places[:, 1][by_row].argsort(1))
        side = min(size[0] / rows, size[1] / columns)
        of_rows, of_columns = places[:, 0][order], places[:, 1][order].T
        if _even(of_rows, size[0], side) and _even(of_columns, size[1], side):
            return (rows, columns), order.flatten()
    return None


def _even(places: Tensor, size: float, side: float) -> bool:
    """Whether places [k, m] form k lines, one behind the other at equal distances from one end of a size to the other.

    Args:
        places: in pixels.
        size: of the picture.
        side: the shorter side of a patch.
    """
    lines = places.mean(1)
    count = len(lines)
    step = size / count
    expected = (torch.arange(count, device=lines.device) + 0.5) * step
    # Where receptive fields overlap, the outermost look a little further inside.
    ends = 0.9 if count > 1 else 0.2
    aside = (places - lines[:, None]).abs().max()
    found = float(lines[-1] - lines[0]) / (count - 1) if count > 1 else step
    uneven = (lines - lines[0] - found * torch.arange(count, device=lines.device)).abs().max()
    covers = (lines - expected).abs()[[0, -1]].max() < ends * step
    return bool(covers and 0.5 * step <= found and aside <= _ASIDE * side and uneven <= _UNEVEN * found)
