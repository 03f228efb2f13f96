"""torchvision: the encoder layers of its VisionTransformer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from captum_ultra.adapters.view import TransformerView

__all__ = ["view"]


def view(model: nn.Module, inputs: Tensor, blocks: Sequence[nn.Module] | None = None) -> TransformerView | None:
    """A view of a torchvision model; None if its class is not known here."""
    encoder = getattr(model, "encoder", None)
    found = blocks if blocks is not None else getattr(encoder, "layers", None)
    if not isinstance(found, nn.ModuleList | nn.Sequential | list):
        return None
    return TransformerView(f"torchvision {type(model).__name__}", model, list(found))
