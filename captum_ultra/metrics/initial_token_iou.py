"""Do the maps of tokens find the objects that the tokens come from? (ITIoU)"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_ultra.metrics.base import Metric
from captum_ultra.segmentation.enlarging import enlarge
from captum_ultra.segmentation.object_selection import object_mask

__all__ = ["InitialTokenIoU", "initial_token_iou"]

_TOKENS = 64


def initial_token_iou(masks: Tensor, target: Tensor, grid: tuple[int, int], ignore_index: int | None = 255) -> Tensor:
    """Initial-token IoU of one image (ULTra, arXiv 2411.12589, eq. 17).

    A token belongs to the class that holds most pixels of its patch, the smallest in a draw. The IoU of
    its mask with the mask of that class, mean over the tokens of a class, then over the classes.

    Void counts as a class in that vote: a token whose patch is mostly void is left out. Void pixels count
    neither in intersections nor in unions.

    Args:
        masks: bool [T, H, W], one for every patch of the grid, row by row.
        target: integer classes [H, W].
        grid: (rows, columns) of the patches, T = rows * columns; patches cover the image evenly.
        ignore_index: the target of void pixels; None if there are none.

    Returns:
        A float64 scalar in 0..1; NaN if no token has a class.

    Raises:
        TypeError, ValueError: for shapes and kinds that do not fit.

    Example:
        >>> target = torch.tensor([[0, 0, 1, 1]])
        >>> masks = torch.tensor([[[1, 1, 0, 0]], [[0, 0, 0, 1]]]).bool()
        >>> initial_token_iou(masks, target, grid=(1, 2))
        tensor(0.7500, dtype=torch.float64)
    """
    _check(masks, target, grid)
    classes, index = target.unique(return_inverse=True)
    is_class = torch.nn.functional.one_hot(index.flatten(), len(classes)).double()
    cells = _patch_of_pixel(target, grid) * len(classes) + index
    own = torch.bincount(cells.flatten(), minlength=len(masks) * len(classes)).view(len(masks), -1).argmax(1)
    counted = torch.ones_like(target, dtype=torch.bool) if ignore_index is None else target != ignore_index
    kept = torch.ones_like(own, dtype=torch.bool) if ignore_index is None else classes[own] != ignore_index
    if not kept.any():
        return torch.tensor(torch.nan, dtype=torch.float64, device=target.device)
    masks, own = masks[kept] & counted, own[kept]
    # Some tokens at a time: as numbers, the masks take eight times the memory.
    shared = torch.cat([each.flatten(1).double() @ is_class for each in masks.split(_TOKENS)])
    inside = shared.gather(1, own[:, None])[:, 0]
    iou = inside / (masks.sum((1, 2)) + is_class.sum(0)[own] - inside)
    tokens = own.bincount(minlength=len(classes))
    mean = iou.new_zeros(len(classes)).index_add_(0, own, iou) / tokens
    return mean[tokens > 0].mean()


class InitialTokenIoU(Metric):
    """ITIoU, mean over images of :func:`initial_token_iou` (ULTra, arXiv 2411.12589, eq. 14 to 17).

    Called with one map for every patch token, row by row, and with integer classes ``target`` [B, H, W].
    Maps are floating point [B, T, h, w]; enlarged to the target, they become masks where they reach
    ``threshold`` (eq. 14, :func:`captum_ultra.segmentation.object_mask`). Masks, bool [B, T, H, W], are
    taken as they are. Images in which no token has a class are left out. ``compute()`` gives a float64
    scalar in 0..1, NaN without any image.

    Args:
        grid: (rows, columns) of the patches; the square root of T each when None.
        threshold: tau, of maps scaled to 0..1.
        ignore_index: the target of void pixels; None if there are none.
        **kwargs: further arguments of ``torchmetrics.Metric``.

    Raises:
        TypeError, ValueError: on update, for shapes and kinds that do not fit.

    Example:
        >>> metric = InitialTokenIoU(grid=(1, 2))
        >>> masks = torch.tensor([[[[1, 1, 0, 0]], [[0, 0, 1, 1]]]]).bool()
        >>> metric(masks, torch.tensor([[[5, 5, 9, 9]]]))
        tensor(1., dtype=torch.float64)
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    total: Tensor
    images: Tensor

    def __init__(
        self,
        grid: tuple[int, int] | None = None,
        threshold: float = 0.2,
        ignore_index: int | None = 255,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.grid, self.threshold, self.ignore_index = grid, threshold, ignore_index
        self.add_state("total", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("images", torch.zeros((), dtype=torch.long), dist_reduce_fx="sum")

    def update(self, maps: Tensor, target: Tensor) -> None:
        """Count a batch of maps or masks [B, T, H, W] and integers [B, H, W]."""
        if maps.dim() != 4:
            raise ValueError(f"maps of shape {list(maps.shape)}: one for every patch token is needed, [B, T, H, W]")
        if maps.dtype != torch.bool and not maps.is_floating_point():
            raise TypeError(f"maps must be floating point, or masks bool, got {maps.dtype}")
        if len(maps) != len(target):
            raise ValueError(f"{len(maps)} images have maps and {len(target)} have a target")
        side = round(maps.shape[1] ** 0.5)
        grid = self.grid or (side, side)
        for each, classes in zip(maps, target, strict=True):
            value = initial_token_iou(self._masks(each, classes), classes, grid, self.ignore_index)
            if not value.isnan():
                self.total += value
                self.images += 1

    def _masks(self, maps: Tensor, target: Tensor) -> Tensor:
        if maps.dtype == torch.bool:
            return maps
        large = enlarge(maps, (target.shape[-2], target.shape[-1]), "bilinear")
        return object_mask(large[None], self.threshold)[0]

    def compute(self) -> Tensor:
        """The mean over the images counted so far."""
        return self.total / self.images


def _check(masks: Tensor, target: Tensor, grid: tuple[int, int]) -> None:
    if masks.dtype != torch.bool:
        raise TypeError(f"masks must be bool, got {masks.dtype}; object_mask(maps) makes them of maps")
    if target.is_floating_point() or target.is_complex() or target.dtype == torch.bool:
        raise TypeError(f"target must hold integers, got {target.dtype}")
    if masks.dim() != 3 or target.shape != masks.shape[1:]:
        raise ValueError(f"masks {list(masks.shape)} and target {list(target.shape)} must be [T, H, W] and [H, W]")
    if grid[0] * grid[1] != len(masks):
        raise ValueError(f"{len(masks)} masks do not fill a grid of {grid[0]} x {grid[1]} patches; give the grid")
    if grid[0] > masks.shape[1] or grid[1] > masks.shape[2]:
        raise ValueError(f"a grid of {grid[0]} x {grid[1]} patches is finer than {list(masks.shape[1:])} pixels")


def _patch_of_pixel(target: Tensor, grid: tuple[int, int]) -> Tensor:
    """The number of the patch [H, W] in which the middle of each pixel lies."""
    rows, columns = (
        (2 * torch.arange(length, device=target.device) + 1) * count // (2 * length)
        for length, count in zip(target.shape, grid, strict=True)
    )
    return rows[:, None] * grid[1] + columns
