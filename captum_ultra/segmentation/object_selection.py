"""One token's map as a mask: which object the token belongs to."""

from __future__ import annotations

from torch import Tensor

__all__ = ["object_mask"]


def object_mask(maps: Tensor, threshold: float = 0.2) -> Tensor:
    """The object that each map shows: M = [map >= tau], every map scaled to [0, 1] first.

    A map without contrast shows no object: its mask is empty.

    Args:
        maps: [..., H, W], any scale; maps of :class:`captum_ultra.LatentTokenAttribution`, say.
        threshold: tau, between 0 and 1.

    Returns:
        bool [..., H, W].

    Raises:
        ValueError: for a threshold outside [0, 1], or maps that are no images or not finite.

    Source:
        ULTra (arXiv 2411.12589), eq. 14.

    Example:
        >>> import torch
        >>> object_mask(torch.tensor([[2.0, 3.0], [4.0, 12.0]]))
        tensor([[False, False],
                [ True,  True]])
    """
    if not 0 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold}; maps are scaled to [0, 1], so it must lie there")
    if maps.dim() < 2 or not maps.is_floating_point() or maps.numel() == 0:
        raise ValueError(f"maps must be floating point [..., H, W], got {maps.dtype} of shape {list(maps.shape)}")
    if not maps.isfinite().all():
        raise ValueError("maps hold values that are not finite; no threshold means anything there")
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    return ((maps - low) / (high - low) >= threshold) & (high > low)
