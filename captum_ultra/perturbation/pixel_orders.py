"""In which order the pixels of an image are taken away, or put in, and the images that come of it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.perturbation.seeds import seeded_generator

__all__ = ["INSERTIONS", "ORDERS", "REMOVALS", "black_of", "pixel_ranks", "steps_in_pixels", "switch_pixels"]

ORDERS = ("positive", "negative", "random")
"""Most relevant pixels removed first, least relevant first, and the control: in the order of a random map."""

REMOVALS = (*ORDERS, "deletion", "random_deletion")
INSERTIONS = ("insertion", "random_insertion")

_ASCENDING = ("negative",)


def pixel_ranks(
    maps: Tensor, order: str, *, seed: int = 0, first: int = 0, grid: tuple[int, int] | None = (14, 14)
) -> Tensor:
    """The place of every pixel in the order in which pixels are changed, int64 [B, H * W], 0 for the first one.

    Of equal values the pixel that comes first row by row is changed first, in every order: constant
    stretches of a map carry no information, and nothing is gained or lost by a random decision.

    Args:
        maps: [B, H, W].
        order: a name among ``REMOVALS`` and ``INSERTIONS``.
        seed: of random orders.
        first: number of the first image; a random order depends on the seed and the image's number only.
        grid: (rows, columns) of the random maps, enlarged bilinearly as maps of patches are. None draws every
            pixel by itself, which destroys edges everywhere at once and is no fair opponent of a smooth map.

    Example:
        >>> pixel_ranks(torch.tensor([[[0.2, 0.9], [0.2, 0.5]]]), "positive")
        tensor([[2, 0, 3, 1]])
        >>> pixel_ranks(torch.tensor([[[0.2, 0.9], [0.2, 0.5]]]), "negative")
        tensor([[0, 3, 1, 2]])
    """
    if order.startswith("random"):
        numbers = range(first, first + len(maps))
        size = (maps.shape[1], maps.shape[2])
        maps = torch.stack([_random_map(size, seed, number, grid) for number in numbers]).to(maps.device)
    return maps.flatten(1).argsort(dim=1, descending=order not in _ASCENDING, stable=True).argsort(dim=1)


def _random_map(size: tuple[int, int], seed: int, number: int, grid: tuple[int, int] | None) -> Tensor:
    """[H, W] in 0..1."""
    rows, columns = size if grid is None else (min(grid[0], size[0]), min(grid[1], size[1]))
    values = torch.rand(1, 1, rows, columns, generator=seeded_generator(seed, number), dtype=torch.float64)
    if grid is None:
        return values[0, 0]
    return F.interpolate(values, size=size, mode="bilinear", align_corners=False)[0, 0]


def steps_in_pixels(steps: tuple[float, ...], pixels: int) -> list[int]:
    """How many of the pixels each share is, rounded.

    Example:
        >>> steps_in_pixels((0.1, 0.29, 1.0), 100)
        [10, 29, 100]
    """
    return [int(step * pixels + 0.5) for step in steps]


def switch_pixels(inputs: Tensor, ranks: Tensor, counts: Tensor, black: Tensor, insert: Tensor) -> Tensor:
    """Images of which the first pixels of an order are black, or of which nothing else is left.

    Args:
        inputs: [B, C, H, W].
        ranks: of :func:`pixel_ranks`, [B, H * W].
        counts: [B], how many pixels are changed.
        black: what replaces pixels, to be broadcast to an image [C, H, W].
        insert: bool [B]; True keeps the first pixels and blackens all others.

    Returns:
        [B, C, H, W].
    """
    taken = (ranks < counts[:, None]) ^ insert[:, None]
    return torch.where(taken.view(len(inputs), 1, *inputs.shape[2:]), black, inputs)


def black_of(
    inputs: Tensor, mean: Tensor | None = None, std: Tensor | None = None, baseline: Tensor | None = None
) -> Tensor:
    """What takes the place of a pixel in inputs [B, C, H, W]: broadcast to an image, [C, 1, 1] or [C, H, W].

    Args:
        inputs: normalised.
        mean: [C] that the normalisation subtracted.
        std: [C] by which it divided.
        baseline: instead of both: a number, [C], or an image [C, H, W], in normalised values.

    Raises:
        ValueError: for shapes that do not fit.

    Example:
        >>> black_of(torch.rand(1, 1, 2, 2), torch.tensor([0.5]), torch.tensor([0.25])).flatten()
        tensor([-2.])
    """
    channels = inputs.shape[1]
    if baseline is None:
        assert mean is not None and std is not None
        if mean.shape != (channels,) or std.shape != (channels,):
            raise ValueError(
                f"mean {list(mean.shape)} and std {list(std.shape)} must have one number for each of the {channels} "
                "channels of the inputs"
            )
        return (-mean.double() / std.double()).to(inputs).view(-1, 1, 1)
    if baseline.dim() == 0:
        return baseline.to(inputs).expand(channels, 1, 1)
    if baseline.shape == (channels,):
        return baseline.to(inputs).view(-1, 1, 1)
    if baseline.shape != inputs.shape[1:] and baseline.shape != (channels, 1, 1):
        raise ValueError(
            f"baseline of shape {list(baseline.shape)}; possible: a number, [{channels}], or an image "
            f"{list(inputs.shape[1:])}"
        )
    return baseline.to(inputs)
