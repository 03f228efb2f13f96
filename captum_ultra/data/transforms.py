"""Image and labels brought to one size together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_ultra.io import rgb

if TYPE_CHECKING:
    from PIL.Image import Image

__all__ = ["Labels", "ResizeCrop", "Transform", "image_tensor"]

Labels = NDArray[np.uint8]
Transform = Callable[["Image", Labels], tuple["Image", Labels]]

_FILTERS = ("bilinear", "bicubic", "nearest")


@dataclass(frozen=True)
class ResizeCrop:
    """Resize the shorter side, then cut out the centred square: the protocol of STEGO's tables, with 320 pixels.

    Labels are resized by nearest neighbour, so that no class appears that was not there. Sides and
    corners are rounded as torchvision's ``Resize`` and ``CenterCrop`` do. STEGO (Hamilton et al., ICLR 2022)
    resizes its images by nearest neighbour as well; ``interpolation="nearest"`` does that.

    Args:
        size: side of the square in pixels.
        interpolation: of the image: "bilinear" (antialiased), "bicubic" (antialiased) or "nearest".

    Raises:
        ValueError: for a size below 1 or an unknown interpolation.

    Example:
        >>> from PIL import Image
        >>> image, labels = ResizeCrop(32)(Image.new("RGB", (96, 64)), np.zeros((64, 96), np.uint8))
        >>> image.size, labels.shape
        ((32, 32), (32, 32))
    """

    size: int
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}; the side of a square has at least 1 pixel")
        if self.interpolation not in _FILTERS:
            raise ValueError(
                f"interpolation={self.interpolation!r} is unknown; possible: {', '.join(map(repr, _FILTERS))}"
            )

    def __call__(self, image: Image, labels: Labels) -> tuple[Image, Labels]:
        from PIL import Image as pil

        width, height = image.size
        shorter = min(width, height)
        new = (self.size * width // shorter, self.size * height // shorter)
        left, top = round((new[0] - self.size) / 2), round((new[1] - self.size) / 2)
        box = (left, top, left + self.size, top + self.size)
        image = image.resize(new, pil.Resampling[self.interpolation.upper()]).crop(box)
        small = pil.fromarray(labels).resize(new, pil.Resampling.NEAREST).crop(box)
        return image, np.asarray(small)


def image_tensor(image: Image) -> Tensor:
    """A PIL image as float32 [3, H, W] in [0, 1], upright, transparent parts over white (:func:`captum_ultra.io.rgb`).

    Example:
        >>> from PIL import Image
        >>> image_tensor(Image.new("L", (4, 2), 255)).shape
        torch.Size([3, 2, 4])
    """
    pixels = np.array(rgb(image), dtype=np.float32) / 255
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
