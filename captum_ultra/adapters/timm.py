"""timm: every plain ViT keeps its residual stream in ``blocks``."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from captum_ultra.adapters.view import TransformerView
from captum_ultra.errors import UnsupportedModelError

__all__ = ["view"]


def view(model: nn.Module, inputs: Tensor, blocks: Sequence[nn.Module] | None = None) -> TransformerView | None:
    """A view of a timm model; None if it has no list of ``blocks`` (then discovery tries)."""
    name = f"timm {type(model).__name__}"
    if getattr(model, "grad_checkpointing", False):
        raise UnsupportedModelError(
            f"{name} recomputes its blocks during the backward pass (gradient checkpointing), outside the "
            "explanation's control: call model.set_grad_checkpointing(False) first"
        )
    found = blocks if blocks is not None else getattr(model, "blocks", None)
    if not isinstance(found, nn.ModuleList | nn.Sequential | list):
        return None
    if any(isinstance(each, nn.ModuleList) for each in found):
        return None  # stages
    return TransformerView(name, model, list(found))
