"""The training of ULTra_W written out: one region, one token, one number at a time, and Adam by its formula."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def loss_and_gradient(
    latents: Callable[[Tensor], Tensor], images: Tensor, regions: Tensor, theta: Tensor, grid: tuple[int, int],
    prefix: int, everywhere: Tensor,
) -> tuple[float, Tensor]:  # fmt: skip
    """Eq. 13, mean over images, and its gradient in theta [n, d], derived by hand.

    With w = theta / r, r = ||theta||, and a = w . (z - z~), the gradient of a^2 is
    2 a ((z - z~) - a w) / r.
    """
    total, gradient = 0.0, torch.zeros_like(theta)
    high, wide = images.shape[2] // grid[0], images.shape[3] // grid[1]
    for image, region, replacement in zip(images, regions, everywhere, strict=True):
        clean = latents(image[None])[0]
        for label in sorted(set(region.tolist())):
            changed = image.clone()
            for patch, other in enumerate(region.tolist()):
                if other != label:
                    row, column = divmod(patch, grid[1])
                    part = (..., slice(row * high, (row + 1) * high), slice(column * wide, (column + 1) * wide))
                    changed[part] = replacement[part]
            moved = clean - latents(changed[None])[0]
            for patch, other in enumerate(region.tolist()):
                if other == label:
                    token = prefix + patch
                    r = theta[token].norm()
                    w, delta = theta[token] / r, moved[token].to(theta)
                    a = w @ delta
                    total += float(a * a)
                    gradient[token] += 2 * a * (delta - a * w) / r
    return total / len(images), gradient / len(images)


class Adam:
    """Kingma and Ba (2015), algorithm 1, with the usual constants."""

    def __init__(self, rate: float) -> None:
        self.rate, self.t, self.m, self.v = rate, 0, 0.0, 0.0

    def step(self, theta: Tensor, gradient: Tensor) -> Tensor:
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * gradient
        self.v = 0.999 * self.v + 0.001 * gradient**2
        m, v = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return theta - self.rate * m / (v.sqrt() + 1e-8)
