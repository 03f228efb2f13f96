"""TransformerLens: bridges and hooked transformers keep their residual blocks in ``blocks``."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from captum_ultra.adapters.view import TransformerView

__all__ = ["view"]


def view(model: nn.Module, inputs: Tensor, blocks: Sequence[nn.Module] | None = None) -> TransformerView | None:
    """A view of a TransformerLens model; None if it has no ``blocks``."""
    found = blocks if blocks is not None else getattr(model, "blocks", None)
    if found is None:
        return None
    return TransformerView(f"TransformerLens {type(model).__name__}", model, list(found))
