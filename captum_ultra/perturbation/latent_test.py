"""Does a latent token change more when the patches that its map calls relevant are perturbed?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_ultra.adapters import Blocks, TokenLayout
from captum_ultra.attr.latent_token import LatentTokenAttribution
from captum_ultra.attr.latents import LatentReader
from captum_ultra.attr.scores import Score, as_score
from captum_ultra.perturbation.latent_result import ORDERS, LatentPerturbationResult
from captum_ultra.perturbation.patches import Perturbation, patch_mask
from captum_ultra.perturbation.seeds import seeded_generator

__all__ = ["SWEEP", "LatentPerturbationTest"]

SWEEP = tuple(round(0.1 * tenth, 1) for tenth in range(1, 10))


class LatentPerturbationTest:
    """The perturbation test of latent tokens, with a random-order control.

    For k random tokens an image, the share ``fraction`` of all other patches is perturbed, most relevant
    first (positive), least relevant first (negative) and in random order; the token's own patch is never
    touched, and the number of patches is the same in all three. The distance ||z_i - z~_i||_2 of the raw
    latent at the layer should be larger for the positive order than for the negative one.

    What an image gives depends on the seed and its number only, not on the other images or the batches. Its
    replacement (the noise, say) is one and the same for all its tokens, orders and fractions.

    Args:
        model: any vision model that :class:`captum_ultra.LatentTokenAttribution` explains.
        layer: number of blocks passed, from 1, negative from the end, or a block, or its name.
        fraction: share of the other patches, between 0 and 1, or several in increasing order;
            ``SWEEP`` is 0.1 .. 0.9.
        score: as in :meth:`captum_ultra.LatentTokenAttribution.attribute`.
        tokens: k; None takes every patch.
        mode: "mask", "noise", "mean" or "blur", or a :class:`Perturbation` with its settings.
        seed: of the tokens, the random orders (which also decide between equal relevances) and the noise.
        normalize: as in :meth:`captum_ultra.LatentTokenAttribution.attribute`.
        patch_size: as in :func:`captum_ultra.perturbation.patches.perturb_patches`.
        batch_size: perturbed images in one run of the model.
        internal_batch_size: targets pulled back at once; from a memory budget when None.
        blocks: as in :class:`captum_ultra.LatentTokenAttribution`.

    Raises:
        ValueError, TypeError: for arguments.
        UnsupportedModelError: for wrappers that hide the attention.

    Source:
        ULTra (arXiv 2411.12589), eq. 16. The fraction is not stated there: 0.5 by default.

    Example:
        >>> from captum_ultra.models.vit import ViTConfig, VisionTransformer
        >>> model = VisionTransformer(ViTConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
        >>> result = LatentPerturbationTest(model, tokens=2).run(torch.randn(3, 3, 16, 16))
        >>> result.distances.shape
        torch.Size([3, 3, 1])
    """

    def __init__(
        self, model: nn.Module, layer: int | str | nn.Module = -1, fraction: float | Sequence[float] = 0.5, *,
        score: Score = "sum", tokens: int | None = 10, mode: str | Perturbation = "mask", seed: int = 0,
        normalize: bool = True, patch_size: tuple[int, int] | None = None, batch_size: int = 64,
        internal_batch_size: int | None = None, blocks: Blocks | None = None,
    ) -> None:  # fmt: skip
        self.fractions = (float(fraction),) if isinstance(fraction, int | float) else tuple(map(float, fraction))
        if not self.fractions or not all(0 < each < 1 for each in self.fractions):
            raise ValueError(f"fraction={fraction!r}: every share of patches must lie between 0 and 1, both excluded")
        if list(self.fractions) != sorted(set(self.fractions)):
            raise ValueError(f"fraction={fraction!r}: several shares must increase")
        if (tokens is not None and tokens < 1) or batch_size < 1:
            raise ValueError(f"tokens ({tokens}) and batch_size ({batch_size}) must be at least 1")
        as_score(score, normalize)
        self.layer, self.score, self.normalize = layer, score, normalize
        self.tokens, self.seed, self.patch_size = tokens, seed, patch_size
        self.perturbation = mode if isinstance(mode, Perturbation) else Perturbation(mode)
        self.batch_size, self.internal_batch_size = batch_size, internal_batch_size
        self._explain, self._read = LatentTokenAttribution(model, blocks), LatentReader(model, layer, blocks)

    def run(self, images: Tensor | Iterable[Tensor], *, show_progress: bool = False) -> LatentPerturbationResult:
        """Test images.

        Args:
            images: [N, C, H, W], or images [C, H, W] one after the other; normalised as the model expects.
            show_progress: show a progress bar over the images.

        Returns:
            Distances by image, order and fraction; curves and intervals are properties.

        Raises:
            ValueError, TypeError: for images or tokens that do not fit.
            UnsupportedModelError: for models that cannot be explained faithfully.
        """
        total = len(images) if isinstance(images, Sized) else None
        bar = tqdm(images, total=total, desc="perturbation test", disable=not show_progress)
        rows, settings = [], self.settings()
        for number, image in enumerate(bar):
            rows.append(self.measure(image, number))
            if number == 0:
                settings["layer"] = self._read.number(image.unsqueeze(0))
        if not rows:
            raise ValueError("images is empty; give at least one")
        return LatentPerturbationResult(self.fractions, torch.stack(rows), settings=settings)

    def measure(self, image: Tensor, number: int) -> Tensor:
        """Test one image, so that a caller can keep what is finished.

        Args:
            image: [C, H, W].
            number: of the image; with the seed it decides tokens, random orders and noise.

        Returns:
            float64 [3, F]: mean distance over its tokens, by order and fraction; on the CPU.
        """
        if image.dim() != 3:
            raise ValueError(f"an image must be [C, H, W], got {list(image.shape)}")
        batch, generator = image.unsqueeze(0), seeded_generator(self.seed, number)
        layout, patches = self._patches(batch, generator)
        others = self._orders(batch, layout, patches, generator)
        masks = torch.stack([_first(others, share, layout) for share in self.fractions], dim=2)
        distances = self._distances(batch, layout, patches, masks, self.perturbation(batch, generator))
        return distances.mean(0)

    def settings(self) -> dict[str, Any]:
        """What is tested, in plain numbers and strings."""
        return {
            "layer": self.layer if isinstance(self.layer, int | str) else type(self.layer).__name__,
            "score": self.score if isinstance(self.score, str) else type(self.score).__name__,
            "normalize": self.normalize,
            "tokens": self.tokens,
            "perturbation": asdict(self.perturbation),
            "seed": self.seed,
        }

    def _patches(self, batch: Tensor, generator: torch.Generator) -> tuple[TokenLayout, Tensor]:
        """The layout, and the numbers of the patches whose tokens are tested, [T]."""
        layout = self._explain.token_layout(batch)
        if layout.grid is None:
            raise ValueError(f"the patch grid of {layout.tokens} tokens is not known, so no patch can be perturbed")
        if self._read.number(batch) == 0:
            raise ValueError("layer=0: at the embedding a token holds its own patch alone; take a layer after a block")
        count = layout.grid[0] * layout.grid[1]
        if count < 2:
            raise ValueError("the image has one patch, and beside it none that could be perturbed; take larger images")
        if self.tokens is not None and self.tokens > count:
            raise ValueError(f"tokens={self.tokens}: the image has {count} patches; tokens=None takes every one")
        return layout, torch.randperm(count, generator=generator)[: self.tokens]

    def _orders(self, batch: Tensor, layout: TokenLayout, patches: Tensor, generator: torch.Generator) -> Tensor:
        """The other patches of every tested one, by order: [T, 3, P - 1]."""
        relevance = self._explain.attribute(
            batch, token=_tokens(layout, patches).tolist(), layer=self.layer, score=self.score,
            normalize=self.normalize, self_token="zero", output="patches",
            internal_batch_size=self.internal_batch_size,
        )[0].cpu()  # fmt: skip
        orders = []
        for patch, row in zip(patches.tolist(), relevance, strict=True):
            others = torch.randperm(len(row), generator=generator)
            others = others[others != patch]  # their random order decides between equal relevances
            positive, negative = (
                others[row[others].argsort(descending=descending, stable=True)] for descending in (True, False)
            )
            orders.append(torch.stack([positive, negative, others]))
        return torch.stack(orders)

    def _distances(
        self, batch: Tensor, layout: TokenLayout, patches: Tensor, masks: Tensor, replacement: Tensor
    ) -> Tensor:
        """||z_i - z~_i||_2 for tested patches [T] under masks [T, 3, F, P]: float64 [T, 3, F]."""
        assert layout.grid is not None
        clean = self._read(batch)[0]
        tokens = _tokens(layout, patches).repeat_interleave(masks.shape[1] * masks.shape[2]).to(clean.device)
        size, distances = (batch.shape[2], batch.shape[3]), []
        for start in range(0, len(tokens), self.batch_size):
            stretch = slice(start, start + self.batch_size)
            chosen, token = masks.flatten(0, 2)[stretch], tokens[stretch]
            pixels = patch_mask(chosen.to(batch.device), layout.grid, size, self.patch_size)
            changed = self._read(torch.where(pixels.unsqueeze(1), replacement, batch))
            moved = changed[torch.arange(len(token), device=token.device), token].double() - clean[token].double()
            distances.append(moved.norm(dim=-1).cpu())
        return torch.cat(distances).view(len(patches), len(ORDERS), len(self.fractions))


def _tokens(layout: TokenLayout, patches: Tensor) -> Tensor:
    """The tokens of patches that are numbered row by row of the picture."""
    return torch.arange(layout.tokens)[layout.patches][patches]


def _first(orders: Tensor, share: float, layout: TokenLayout) -> Tensor:
    """The first ``share`` of every order [T, 3, P - 1], at least one patch, as masks [T, 3, P]."""
    assert layout.grid is not None
    count = max(1, int(share * orders.shape[-1] + 0.5))
    masks = torch.zeros(*orders.shape[:2], layout.grid[0] * layout.grid[1], dtype=torch.bool)
    return masks.scatter(-1, orders[..., :count], True)
