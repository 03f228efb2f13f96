"""Pictures as a page carries them."""

from __future__ import annotations

from base64 import b64encode
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["as_shown", "data_url"]

_LOSSLESS = 200_000  # bytes; larger pictures are stored as JPEG


def data_url(picture: NDArray[Any]) -> str:
    """A picture [H, W, 3] in 0..1 as a URL that holds it: PNG, or JPEG where that would be large.

    Example:
        >>> data_url(np.zeros((2, 2, 3)))[:22]
        'data:image/png;base64,'
    """
    from PIL import Image

    image = Image.fromarray((255 * np.asarray(picture).clip(0, 1)).round().astype(np.uint8))
    buffer, kind = BytesIO(), "png"
    image.save(buffer, "png", optimize=True)
    if buffer.tell() > _LOSSLESS:
        buffer, kind = BytesIO(), "jpeg"
        image.save(buffer, "jpeg", quality=90)
    return f"data:image/{kind};base64,{b64encode(buffer.getvalue()).decode('ascii')}"


def as_shown(picture: Tensor | NDArray[Any] | None, inputs: Tensor) -> NDArray[np.float32]:
    """The picture to show, [H, W, 3] in 0..1: the given one, or the inputs [1, C, H, W] scaled to their range.

    Integers are bytes, 0..255.

    Raises:
        ValueError: for a picture of another shape, or of other values.

    Example:
        >>> import torch
        >>> as_shown(None, torch.tensor([[[[-1.0, 1.0]]]])).tolist()
        [[[0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]]
    """
    if picture is None:
        values = inputs[0].detach().float().cpu().numpy().transpose(1, 2, 0)
        low, high = values.min(), values.max()
        values = (values - low) / ((high - low) or 1)
        return np.repeat(values[..., :1], 3, axis=2) if values.shape[2] != 3 else values
    given = np.asarray(picture.detach().cpu() if isinstance(picture, Tensor) else picture)
    values = (given / 255 if given.dtype.kind in "iu" else given).astype(np.float32)
    if values.ndim == 3 and values.shape[2] != 3 and values.shape[0] == 3:
        values = values.transpose(1, 2, 0)
    if values.ndim != 3 or values.shape[2] != 3:
        raise ValueError(f"picture must have the shape [H, W, 3] or [3, H, W], got {list(values.shape)}")
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(
            f"picture has values from {given.min():.3g} to {given.max():.3g}; expected bytes, or floating point in "
            "0..1: undo the model's normalisation, or divide by 255"
        )
    return values
