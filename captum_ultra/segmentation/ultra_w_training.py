"""Training of ULTra_W: a token should not notice what happens outside its own region.

Latents are constants here: the model runs without gradients, and only the weights are trained.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from captum_ultra.adapters import Blocks, TokenLayout
from captum_ultra.attr.latent_token import LatentTokenAttribution
from captum_ultra.attr.latents import LatentReader
from captum_ultra.attr.scores import Score
from captum_ultra.perturbation.patches import patch_mask
from captum_ultra.perturbation.seeds import seeded_generator
from captum_ultra.segmentation.ultra_w import UltraW
from captum_ultra.segmentation.ultra_w_checkpoint import Checkpoint, Progress
from captum_ultra.segmentation.ultra_w_settings import UltraWSettings

__all__ = ["Images", "Segment", "train_ultra_w"]

Segment = Callable[[Tensor, Score], Tensor]


class Images(Protocol):
    """A tensor [N, C, H, W], or anything else that gives image ``i`` [C, H, W] of ``len`` images."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Tensor: ...


def train_ultra_w(
    model: nn.Module, images: Images, layer: int | str | nn.Module = -1, settings: UltraWSettings | None = None, *,
    segment: Segment | None = None, initial: Tensor | None = None, blocks: Blocks | None = None,
    checkpoint: str | Path | None = None, checkpoint_every: int = 1, show_progress: bool = False,
) -> UltraW:  # fmt: skip
    """Learn ULTra_W: w_i = theta_i / ||theta_i|| that minimises, by Adam, the sum over an image's regions c of

        sum over tokens i in c of |w_i^T (z_i - z~_i)|^2,

    where z~ are the latents after every patch outside c was perturbed. The regions are predicted by the
    model's own maps; no gradient flows through that prediction.

    Args:
        model: any vision model that :class:`captum_ultra.LatentTokenAttribution` explains.
        images: N images [C, H, W] of one size, normalised as the model expects.
        layer: number of blocks passed, from 1, negative from the end, or a block, or its name.
        settings: everything that the equation leaves open.
        segment: ``segment(images, score)`` -> integer labels [B, H, W], or [B, rows, columns] on the patch
            grid; by default :class:`captum_ultra.segmentation.LatentTokenSegmenter` at the same layer.
        initial: theta [n, d] to start from; ones (the direction of ULTra_S) when None.
        blocks: as in :class:`captum_ultra.LatentTokenAttribution`.
        checkpoint: a file to go on from if it exists, and to keep the state in; an interrupted training that is
            resumed gives what an uninterrupted one gives.
        checkpoint_every: steps between two writes.
        show_progress: show a progress bar over the steps, with the loss.

    Returns:
        The weights, for ``score=`` of attributions and segmenters at this layer.

    Raises:
        ValueError, TypeError: for arguments, images or labels that do not fit, or a checkpoint of another training.
        UnsupportedModelError: for models that cannot be explained faithfully.

    Source:
        ULTra (arXiv 2411.12589), eq. 13.

    Example:
        >>> from captum_ultra.models.vit import ViTConfig, VisionTransformer
        >>> model = VisionTransformer(ViTConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
        >>> settings = UltraWSettings(n_clusters=2, batch_size=2)
        >>> score = train_ultra_w(model, torch.randn(4, 3, 16, 16), layer=1, settings=settings)
        >>> score.weights.shape, len(score.losses)
        (torch.Size([16, 16]), 2)
    """
    settings = settings or UltraWSettings()
    if not len(images):
        raise ValueError("images is empty; give at least one to train on")
    if checkpoint_every < 1:
        raise ValueError(f"checkpoint_every is {checkpoint_every}; it must be at least 1")
    with torch.inference_mode(False):
        trainer = _Trainer(model, images, layer, settings, segment, blocks)
        progress = Progress(trainer.start(initial), settings.learning_rate)
        keeper = None if checkpoint is None else Checkpoint(Path(checkpoint), trainer.about)
        if keeper is not None:
            keeper.resume(progress)
        _train(trainer, progress, keeper, checkpoint_every, show_progress)
    if not any(progress.losses):
        warnings.warn(
            "nothing was learned: every image was segmented into one region, so that nothing lies outside it; give "
            "n_clusters, or a smaller threshold",
            UserWarning,
            stacklevel=2,
        )
    weights = F.normalize(progress.theta.detach(), dim=-1).cpu()
    return UltraW(weights, trainer.number, tuple(progress.losses), trainer.about)


def _train(trainer: _Trainer, progress: Progress, keeper: Checkpoint | None, every: int, show_progress: bool) -> None:
    """Take the steps that are left."""
    batches = trainer.batches()
    with tqdm(total=len(batches), initial=progress.steps, desc="ULTra_W", disable=not show_progress) as bar:
        while progress.steps < len(batches):
            loss = progress.step(trainer.loss, *batches[progress.steps])
            if keeper is not None and (progress.steps % every == 0 or progress.steps == len(batches)):
                keeper.write(progress)
            bar.set_postfix(loss=f"{loss:.4g}")
            bar.update()


class _Trainer:
    """The loss of eq. 13 over batches of images."""

    def __init__(
        self, model: nn.Module, images: Images, layer: int | str | nn.Module, settings: UltraWSettings,
        segment: Segment | None, blocks: Blocks | None,
    ) -> None:  # fmt: skip
        self.images, self.settings = images, settings
        self.read = LatentReader(model, layer, blocks)
        self.segment = segment or _default_segment(model, layer, settings, blocks)
        self.count = min(settings.samples, len(images))
        first = self._image(0).unsqueeze(0)
        self.number = self.read.number(first)
        if self.number == 0:
            raise ValueError("layer=0: at the embedding no token notices any other; take a layer after a block")
        self.layout = LatentTokenAttribution(model, blocks).token_layout(first)
        if self.layout.grid is None:
            raise ValueError(
                f"the patch grid of {self.layout.tokens} tokens is not known, so no patch can be perturbed"
            )
        self._first, self.shape = first, tuple(first.shape[1:])
        self._known: dict[int, Tensor] = {}
        self.about: dict[str, Any] = {"layer": self.number, "images": self.count, "image_shape": list(self.shape)}
        self.about |= settings.to_dict()

    def start(self, initial: Tensor | None) -> Tensor:
        """theta [n, d] before the first step."""
        latents = self.read(self._first)[0]
        theta = torch.ones(latents.shape, device=latents.device) if initial is None else initial
        if theta.shape != latents.shape:
            raise ValueError(f"initial is {list(theta.shape)}; the layer has latents {list(latents.shape)}")
        return theta.detach().to(latents.device, torch.float32).clone()

    def batches(self) -> list[tuple[range, int]]:
        """The numbers of the images of every step, and their epoch."""
        size = self.settings.batch_size
        starts = range(0, self.count, size)
        return [
            (range(start, min(start + size, self.count)), epoch)
            for epoch in range(self.settings.epochs)
            for start in starts
        ]

    def loss(self, theta: Tensor, numbers: range, epoch: int) -> Tensor:
        """Mean over images of eq. 13, differentiable in theta alone."""
        with torch.no_grad():
            images = torch.stack([self._image(number) for number in numbers])
            regions = self._predicted(images, numbers, theta.detach()).to(images.device)
            replacement = torch.cat([
                self.settings.perturbation(image[None], seeded_generator(self.settings.seed, number, epoch))
                for image, number in zip(images, numbers, strict=True)
            ])  # fmt: skip
            tokens, moved = self._differences(images, replacement, regions)
        weights = F.normalize(theta, dim=-1)
        return (weights[tokens] * moved).sum(-1).square().sum() / len(images)

    def _predicted(self, images: Tensor, numbers: range, theta: Tensor) -> Tensor:
        """The region of every patch [B, P]; those of ULTra_S never change, so they are found once."""
        if self.settings.regions == "current":
            return _regions(self.segment(images, F.normalize(theta, dim=-1)), self.layout, len(images))
        if any(number not in self._known for number in numbers):
            found = _regions(self.segment(images, "sum"), self.layout, len(images))
            self._known |= dict(zip(numbers, found, strict=True))
        return torch.stack([self._known[number] for number in numbers])

    def _differences(self, images: Tensor, replacement: Tensor, regions: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens [K] whose own patch was kept while another was not, and their z - z~ [K, d]."""
        assert self.layout.grid is not None
        sample, kept = _kept_patches(regions)
        clean = self._latents(images)
        tokens, moved = [], []
        size = self.settings.forward_batch_size
        for samples, patches in zip(sample.split(size), kept.split(size), strict=True):
            pixels = patch_mask(
                ~patches, self.layout.grid, (images.shape[2], images.shape[3]), self.settings.patch_size
            )
            changed = self._latents(torch.where(pixels.unsqueeze(1), replacement[samples], images[samples]))
            run, patch = patches.nonzero(as_tuple=True)
            token = torch.arange(self.layout.tokens, device=patch.device)[self.layout.patches][patch]
            tokens.append(token)
            moved.append(clean[samples[run], token] - changed[run, token])
        if not tokens:
            return sample, clean.new_zeros(0, clean.shape[-1])
        return torch.cat(tokens), torch.cat(moved)

    def _latents(self, images: Tensor) -> Tensor:
        latents = self.read(images).float()
        return F.normalize(latents, dim=-1) if self.settings.normalize else latents

    def _image(self, number: int) -> Tensor:
        image = self.images[number]
        if not isinstance(image, Tensor) or image.dim() != 3:
            got = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise ValueError(f"image {number} must be a tensor [C, H, W], got {got}")
        if number and tuple(image.shape) != self.shape:
            raise ValueError(
                f"image {number} is {list(image.shape)}, the first one {list(self.shape)}; crop to one size"
            )
        return image


def _kept_patches(regions: Tensor) -> tuple[Tensor, Tensor]:
    """Every region of every image that is not all of it: the image's number [M], and its patches [M, P]."""
    masks = regions.unsqueeze(1) == torch.arange(int(regions.max()) + 1, device=regions.device).view(1, -1, 1)
    sample, region = (masks.any(-1) & ~masks.all(-1)).nonzero(as_tuple=True)
    return sample, masks[sample, region]


def _regions(labels: Tensor, layout: TokenLayout, batch: int) -> Tensor:
    """The region of every patch [B, P]: the label that most of its pixels have, the smallest of several."""
    assert layout.grid is not None
    if labels.dim() != 3 or len(labels) != batch or labels.is_floating_point() or int(labels.min()) < 0:
        raise ValueError(
            f"segment must return labels 0, 1, ... as integers [B, H, W] for {batch} images, got {labels.dtype} of "
            f"shape {list(labels.shape)}"
        )
    if tuple(labels.shape[1:]) == layout.grid:
        return labels.flatten(1).long()
    shares = F.adaptive_avg_pool2d(F.one_hot(labels.long()).permute(0, 3, 1, 2).float(), layout.grid)
    return shares.argmax(1).flatten(1)


def _default_segment(
    model: nn.Module, layer: int | str | nn.Module, settings: UltraWSettings, blocks: Blocks | None
) -> Segment:
    from captum_ultra.segmentation.segmenter import LatentTokenSegmenter

    def segment(images: Tensor, score: Score) -> Tensor:
        segmenter = LatentTokenSegmenter(
            model, layer, score, settings.n_clusters, settings.threshold, blocks=blocks
        )  # fmt: skip
        return segmenter.segment(images).labels

    return segment
