"""Latent tokens at a layer, read without anything that an explanation needs."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.adapters import Blocks, ModelViews, TransformerView
from captum_ultra.attr.targets import layer_number
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.scope import frozen_in_eval_mode
from captum_ultra.relevance.stream import LastLayerReached, first_tensor

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
        view = self._views(inputs, additional_forward_args)
        number = layer_number(self.layer, self.model, view.blocks)
        with torch.inference_mode(False), torch.no_grad(), frozen_in_eval_mode(self.model):
            latents = _stream_after(view, number, inputs, additional_forward_args)
        if view.batch_first and latents.shape[0] != inputs.shape[0]:
            raise UnsupportedModelError(
                f"{view.name} carries a stream of shape {list(latents.shape)} for a batch of {inputs.shape[0]}; wrap "
                "the blocks so that the batch comes first"
            )
        if not latents.isfinite().all():
            raise ValueError(f"the latents at layer {number} are not finite: check the input's normalisation and dtype")
        return latents

    def number(self, inputs: Tensor, additional_forward_args: Any = None) -> int:
        """The layer as a number of blocks passed, 0..L."""
        return layer_number(self.layer, self.model, self._views(inputs, additional_forward_args).blocks)


def _stream_after(view: TransformerView, number: int, inputs: Tensor, extra: Any) -> Tensor:
    seen: list[Any] = []

    def keep(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any = None) -> None:
        seen.append((*args, *kwargs.values()) if number == 0 else output)
        if view.stop_early:
            raise LastLayerReached

    block = view.blocks[max(number - 1, 0)]
    hook = block.register_forward_pre_hook if number == 0 else block.register_forward_hook
    handle = hook(keep, with_kwargs=True)
    try:
        with suppress(LastLayerReached):
            view.call(view.model, inputs, extra)
    finally:
        handle.remove()
    stream = first_tensor(seen[0]) if len(seen) == 1 else None
    if stream is None or stream.dim() != 3:
        found = f"ran {len(seen)} times" if len(seen) != 1 else "carries no stream [batch, tokens, channels]"
        raise UnsupportedModelError(
            f"{view.name}: block {max(number - 1, 0)} ({type(block).__name__}) {found}; pass the ordered list of "
            "residual blocks that this input goes through once each as blocks=..."
        )
    return stream if view.batch_first else stream.transpose(0, 1)
