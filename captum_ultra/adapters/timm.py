"""timm: every plain ViT keeps its residual stream in ``blocks``."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from captum_ultra.adapters.view import TransformerView
from captum_ultra.errors import UnsupportedModelError

__all__ = ["view"]

_WINDOWS = "attends within windows, so most tokens never see each other"
_STAGES = "pools tokens between stages, so the tokens of one layer are not those of the next"
_REFUSED = {
    "SwinTransformer": _WINDOWS, "SwinTransformerV2": _WINDOWS, "SwinTransformerV2Cr": _WINDOWS,
    "VisionTransformerSAM": _WINDOWS, "MaxxVit": _WINDOWS, "Nest": _WINDOWS, "Twins": _WINDOWS,
    "Hiera": _STAGES, "PoolingVisionTransformer": _STAGES, "PyramidVisionTransformerV2": _STAGES,
    "MultiScaleVit": _STAGES, "Levit": _STAGES, "LevitDistilled": _STAGES,
    "Xcit": "attends between channels (cross-covariance), not between tokens",
    "Cait": "mixes its attention heads after the softmax (talking heads) and keeps class attention apart",
    "ConVit": "blends positional and content attention after the softmax",
    "TNT": "runs an inner transformer within every patch", "TransformerInTransformer": "runs an inner transformer "
    "within every patch", "VOLO": "uses outlook attention", "CrossViT": "runs two branches that exchange tokens",
}  # fmt: skip


def view(model: nn.Module, inputs: Tensor, blocks: Sequence[nn.Module] | None = None) -> TransformerView | None:
    """A view of a timm model; None if it has no ``blocks`` (then discovery tries)."""
    name = f"timm {type(model).__name__}"
    if blocks is None and type(model).__name__ in _REFUSED:
        raise UnsupportedModelError(
            f"{name} {_REFUSED[type(model).__name__]}. Explain a model with plain global attention (ViT, DeiT, "
            "DINOv2, DINOv3, EVA-02, BEiT, SigLIP), or pass modules that form one as blocks=..."
        )
    if getattr(model, "grad_checkpointing", False):
        raise UnsupportedModelError(
            f"{name} recomputes its blocks during the backward pass (gradient checkpointing), outside the "
            "explanation's control: call model.set_grad_checkpointing(False) first"
        )
    found = blocks if blocks is not None else getattr(model, "blocks", None)
    if not isinstance(found, nn.ModuleList | nn.Sequential | list):
        return None
    return TransformerView(name, model, list(found), prefix=getattr(model, "num_prefix_tokens", None))
