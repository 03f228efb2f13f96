"""torchvision: the encoder layers of its VisionTransformer."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from captum_ultra.adapters.view import TransformerView
from captum_ultra.errors import UnsupportedModelError

__all__ = ["view"]

_REFUSED = {"SwinTransformer", "MaxVit"}


def view(model: nn.Module, inputs: Tensor, blocks: Sequence[nn.Module] | None = None) -> TransformerView | None:
    """A view of a torchvision model; None if its class is not known here."""
    kind = type(model).__name__
    if blocks is None and kind in _REFUSED:
        raise UnsupportedModelError(
            f"torchvision {kind} attends within windows, so most tokens never see each other; "
            "explain torchvision's VisionTransformer or another model with global attention"
        )
    encoder = getattr(model, "encoder", None)
    found = blocks if blocks is not None else getattr(encoder, "layers", None)
    if not isinstance(found, nn.ModuleList | nn.Sequential | list):
        return None
    return TransformerView(f"torchvision {kind}", model, list(found), prefix=1)
