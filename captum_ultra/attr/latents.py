"""Latent tokens at a layer, read without anything that an explanation needs."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from captum_ultra.adapters import Blocks, ModelViews, check_stream
from captum_ultra.adapters.streams import stream_after
from captum_ultra.attr.targets import layer_number
from captum_ultra.relevance import explaining

__all__ = ["LatentReader"]


class LatentReader:
    """Reads the residual stream after a number of blocks: one hook, no gradients, no further block.

    For perturbation tests and training of score weights, which need thousands of latents and no map.
    The model runs in evaluation mode and is left as it was found.

    Args:
        model: as in :class:`captum_ultra.LatentTokenAttribution`.
        layer: number of blocks passed, 0 (the embedding) to L, negative from the end, or a block, or
            its name: after that block.
        blocks: as in :class:`captum_ultra.LatentTokenAttribution`.

    Raises:
        TypeError: if ``model`` is not a module.
        UnsupportedModelError: for wrappers that hide the blocks.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit import ViTConfig, VisionTransformer
        >>> model = VisionTransformer(ViTConfig(dim=16, depth=2, heads=2))
        >>> LatentReader(model, layer=1)(torch.zeros(3, 3, 64, 64)).shape
        torch.Size([3, 256, 16])
    """

    def __init__(self, model: nn.Module, layer: int | str | nn.Module = -1, blocks: Blocks | None = None) -> None:
        self._views = ModelViews(model, blocks)
        self.model, self.layer = model, layer

    def __call__(self, inputs: Tensor, additional_forward_args: Any = None) -> Tensor:
        """The latents [B, n, d] of inputs [B, C, H, W], [B, N] or [B, N, d], detached.

        Args:
            inputs: normalised as the model expects.
            additional_forward_args: further arguments of the model, as in Captum.

        Raises:
            ValueError: if there is no such layer, or a latent is not finite.
            UnsupportedModelError: if the blocks cannot be found, or the layer is not passed exactly once.
        """
        view = self._views.resolved(inputs, additional_forward_args)
        number = layer_number(self.layer, self.model, view.blocks)
        with explaining(self.model, gradients=False):
            latents = stream_after(view, number, inputs, additional_forward_args)
        check_stream(view, inputs, latents, depends=True)
        if not latents.isfinite().all():
            raise ValueError(f"the latents at layer {number} are not finite: check the input's normalisation and dtype")
        return latents

    def number(self, inputs: Tensor, additional_forward_args: Any = None) -> int:
        """The layer as a number of blocks passed, 0..L."""
        return layer_number(self.layer, self.model, self._views.resolved(inputs, additional_forward_args).blocks)
