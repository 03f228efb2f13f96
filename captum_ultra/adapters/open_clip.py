"""open_clip: native towers keep their blocks in ``transformer.resblocks``; timm towers in ``trunk``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from captum_ultra.adapters import timm, transformers
from captum_ultra.adapters.view import TransformerView, call_plainly, library_of, split_arguments
from captum_ultra.errors import UnsupportedModelError

__all__ = ["view"]


def view(model: nn.Module, inputs: Tensor, blocks: Sequence[nn.Module] | None = None) -> TransformerView | None:
    """A view of an open_clip model or of one of its towers; the input decides between towers."""
    is_image = inputs.is_floating_point()
    if hasattr(model, "visual"):
        return _two_towers(model, inputs, is_image, blocks)
    return _tower(model, inputs, blocks)


def _two_towers(
    model: nn.Module, inputs: Tensor, is_image: bool, blocks: Sequence[nn.Module] | None
) -> TransformerView | None:
    if is_image:
        return _tower(model.visual, inputs, blocks)  # type: ignore[arg-type]
    text = getattr(model, "text", None)
    if isinstance(text, nn.Module):
        return _tower(text, inputs, blocks)
    found = blocks or list(model.transformer.resblocks)  # type: ignore[union-attr, arg-type]
    return TransformerView("open_clip text tower", model, found, call=_encode_text)


def _tower(tower: nn.Module, inputs: Tensor, blocks: Sequence[nn.Module] | None) -> TransformerView | None:
    name = f"open_clip {type(tower).__name__}"
    trunk = getattr(tower, "trunk", None)
    if isinstance(trunk, nn.Module) and "timm" in library_of(trunk):
        found = timm.view(trunk, inputs, blocks)
        return found and replace(found, name=name, model=tower)
    if hasattr(tower, "transformer") and "transformers" in library_of(tower.transformer):  # type: ignore[arg-type]
        found = transformers.view(tower.transformer, inputs, blocks)  # type: ignore[arg-type]
        return found and replace(found, name=name, model=tower, call=call_plainly)
    resblocks = blocks or getattr(getattr(tower, "transformer", None), "resblocks", None)
    if resblocks is None:
        raise UnsupportedModelError(
            f"{name} has no residual attention blocks (ResNet towers are convolutional): explain a ViT tower, or the "
            "text tower by passing token ids"
        )
    return TransformerView(name, tower, list(resblocks))


def _encode_text(model: nn.Module, inputs: Tensor, extra: Any) -> Any:
    args, kwargs = split_arguments(extra)
    return model.encode_text(inputs, *args, **kwargs)  # type: ignore[operator]
