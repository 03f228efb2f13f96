"""Patches of an image replaced: by nothing, noise, the mean colour, or a blur."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["MODES", "Perturbation", "patch_mask", "perturb_patches"]


@dataclass(frozen=True)
class Perturbation:
    """What takes the place of a patch; see :func:`perturb_patches` for the arguments.

    Calling it perturbs whole images, [B, C, H, W] -> [B, C, H, W]; which patches show it is decided elsewhere.
    """

    mode: str = "mask"
    deviation: float = 0.3
    black: tuple[Sequence[float], Sequence[float]] | None = None
    blur: float = 8.0

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ValueError(f"mode={self.mode!r} is unknown; possible: {', '.join(map(repr, MODES))}")
        if not self.deviation > 0 or not self.blur > 0:
            raise ValueError(f"deviation ({self.deviation}) and blur ({self.blur}) must be positive")
        if self.black is not None and self.mode != "mask":
            raise ValueError(f'black=... says what mode="mask" puts in; mode={self.mode!r} puts in something else')

    def __call__(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Images [B, C, H, W], perturbed everywhere."""
        return MODES[self.mode](images, self, generator)


def perturb_patches(
    images: Tensor, patches: Tensor, grid: tuple[int, int], mode: str = "mask", *, deviation: float = 0.3,
    black: tuple[Sequence[float], Sequence[float]] | None = None, blur: float = 8.0,
    patch_size: tuple[int, int] | None = None, generator: torch.Generator | None = None,
) -> Tensor:  # fmt: skip
    """Perturb some patches of every image and leave all other pixels exactly as they are.

    - ``"mask"``: zero, the mean of the training data in a normalised input; with ``black``, black before
      normalisation.
    - ``"noise"``: the pixels plus ``deviation`` times standard normal noise.
    - ``"mean"``: the image's mean colour.
    - ``"blur"``: the image, blurred by a Gaussian of ``blur`` pixels' standard deviation.

    Args:
        images: [B, C, H, W], float, normalised as the model expects.
        patches: which ones, by number (row by row): indices [B, K], or [K] for every image, or a mask,
            bool [B, P] or [P].
        grid: (rows, columns) of patches, P = rows * columns.
        mode: see above.
        deviation: of the noise, in units of the input.
        black: (mean, std) that the normalisation used, one number a channel each.
        blur: standard deviation in pixels.
        patch_size: (height, width) of a patch in pixels; needed where the patches do not cover the
            image (sizes that are no multiple), whose lower and right margin then belongs to no patch.
        generator: for the noise; samples are drawn one after the other, so that a batch is a loop.

    Returns:
        A new tensor, shape and dtype of ``images``.

    Raises:
        ValueError: for an unknown mode, patches that do not exist, or a grid that does not fit the image.

    Source:
        ULTra (arXiv 2411.12589), perturbation test: "mask" and "noise".

    Example:
        >>> image = torch.ones(1, 3, 4, 4)
        >>> perturb_patches(image, torch.tensor([0]), grid=(2, 2))[0, 0]
        tensor([[0., 0., 1., 1.],
                [0., 0., 1., 1.],
                [1., 1., 1., 1.],
                [1., 1., 1., 1.]])
    """
    perturbation = Perturbation(mode, deviation, black, blur)
    if images.dim() != 4 or not images.is_floating_point():
        raise ValueError(f"images must be floating point [B, C, H, W], got {images.dtype} {list(images.shape)}")
    chosen = _as_mask(patches, len(images), grid[0] * grid[1]).to(images.device)
    pixels = patch_mask(chosen, grid, (images.shape[2], images.shape[3]), patch_size)
    return torch.where(pixels.unsqueeze(1), perturbation(images, generator), images)


def patch_mask(
    patches: Tensor, grid: tuple[int, int], size: tuple[int, int], patch_size: tuple[int, int] | None = None
) -> Tensor:
    """Which pixels belong to a set of patches.

    Args:
        patches: bool [..., P], P = rows * columns, row by row.
        grid: (rows, columns).
        size: (height, width) of the image in pixels.
        patch_size: (height, width) of a patch; by default the patches cover the image.

    Returns:
        bool [..., H, W].

    Raises:
        ValueError: if the grid does not fit.

    Example:
        >>> patch_mask(torch.tensor([True, False]), (1, 2), (1, 5), (1, 2))
        tensor([[ True,  True, False, False, False]])
    """
    (rows, columns), (height, width) = grid, size
    if patches.shape[-1] != rows * columns:
        raise ValueError(f"{patches.shape[-1]} patches for a grid of {rows} x {columns} = {rows * columns}")
    if patch_size is None:
        if height % rows or width % columns:
            raise ValueError(
                f"images of {height} x {width} pixels are no multiple of the patch grid {rows} x {columns}: resize "
                "them, or give patch_size=(height, width) of a patch in pixels"
            )
        patch_size = height // rows, width // columns
    margin = height - rows * patch_size[0], width - columns * patch_size[1]
    if min(patch_size) < 1 or min(margin) < 0:
        raise ValueError(
            f"{rows} x {columns} patches of {patch_size[0]} x {patch_size[1]} pixels do not fit into {height} x {width}"
        )
    small = patches.unflatten(-1, grid)
    large = small.repeat_interleave(patch_size[0], -2).repeat_interleave(patch_size[1], -1)
    return F.pad(large, (0, margin[1], 0, margin[0]))


def _as_mask(patches: Tensor, batch: int, count: int) -> Tensor:
    """Indices [K] or [B, K], or a mask [P] or [B, P], as a mask [B, P]."""
    if patches.dim() not in (1, 2) or (patches.dim() == 2 and len(patches) not in (1, batch)):
        raise ValueError(
            f"patches of shape {list(patches.shape)} for {batch} images; give indices [K] or [{batch}, K], or a mask "
            f"[{count}] or [{batch}, {count}]"
        )
    if patches.dtype == torch.bool:
        if patches.shape[-1] != count:
            raise ValueError(f"patches: a mask of {patches.shape[-1]} entries for a grid of {count} patches")
        return patches.expand(batch, count)
    if patches.is_floating_point():
        raise ValueError(f"patches must be indices or a boolean mask, got {patches.dtype}")
    if patches.numel() and not (int(patches.min()) >= 0 and int(patches.max()) < count):
        raise ValueError(
            f"patches {int(patches.min())} .. {int(patches.max())} must be among 0 .. {count - 1}, those of the grid"
        )
    indices = patches.expand(batch, -1).long()
    return torch.zeros(batch, count, dtype=torch.bool, device=patches.device).scatter(1, indices, True)


def _mask(images: Tensor, settings: Perturbation, generator: torch.Generator | None) -> Tensor:
    if settings.black is None:
        return torch.zeros_like(images)
    mean, std = (torch.as_tensor(each, dtype=images.dtype, device=images.device) for each in settings.black)
    if mean.shape != (images.shape[1],) or std.shape != mean.shape:
        raise ValueError(
            f"black: mean {list(mean.shape)} and std {list(std.shape)} must have one number for each of the "
            f"{images.shape[1]} channels"
        )
    return (-mean / std).view(-1, 1, 1).expand_as(images)


def _noise(images: Tensor, settings: Perturbation, generator: torch.Generator | None) -> Tensor:
    device = torch.device("cpu") if generator is None else generator.device
    drawn = [torch.randn(images.shape[1:], generator=generator, device=device) for _ in images]
    return images + settings.deviation * torch.stack(drawn).to(images)


def _mean(images: Tensor, settings: Perturbation, generator: torch.Generator | None) -> Tensor:
    return images.mean((2, 3), keepdim=True).expand_as(images)


def _blur(images: Tensor, settings: Perturbation, generator: torch.Generator | None) -> Tensor:
    """A separable Gaussian, cut off at four standard deviations; the image goes on as its border."""
    radius = max(1, round(4 * settings.blur))
    places = torch.arange(-radius, radius + 1, dtype=torch.float32, device=images.device)
    weights = torch.exp(-0.5 * (places / settings.blur) ** 2)
    kernel = (weights / weights.sum()).to(images.dtype)
    planes = F.pad(images.flatten(0, 1).unsqueeze(1), (radius,) * 4, mode="replicate")
    planes = F.conv2d(F.conv2d(planes, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))
    return planes.view_as(images)


MODES: dict[str, Callable[[Tensor, Perturbation, torch.Generator | None], Tensor]] = {
    "mask": _mask,
    "noise": _noise,
    "mean": _mean,
    "blur": _blur,
}
