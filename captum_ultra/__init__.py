"""Explain what a transformer's latent tokens hold, and which input put it there."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from captum_ultra.errors import UnsupportedModelError

if TYPE_CHECKING:
    from captum_ultra.attr.attcat import AttCAT
    from captum_ultra.attr.attention_grad_cam import AttentionGradCam
    from captum_ultra.attr.attention_rollout import AttentionRollout
    from captum_ultra.attr.conservative_lrp import ConservativeLRP
    from captum_ultra.attr.contribution import Contribution, SpanContribution
    from captum_ultra.attr.generic_attention import GenericAttention
    from captum_ultra.attr.latent_token import LatentTokenAttribution
    from captum_ultra.attr.legrad import LeGrad
    from captum_ultra.attr.lrp import LRP
    from captum_ultra.attr.partial_lrp import PartialLRP
    from captum_ultra.attr.raw_attention import RawAttention
    from captum_ultra.attr.token_contribution import TokenContribution
    from captum_ultra.attr.token_tm import TokenTM
    from captum_ultra.attr.transformer_attribution import TransformerAttribution

__version__ = "0.1.0"
__all__ = [
    "LRP",
    "AttCAT",
    "AttentionGradCam",
    "AttentionRollout",
    "ConservativeLRP",
    "Contribution",
    "GenericAttention",
    "LatentTokenAttribution",
    "LeGrad",
    "PartialLRP",
    "RawAttention",
    "SpanContribution",
    "TokenContribution",
    "TokenTM",
    "TransformerAttribution",
    "UnsupportedModelError",
    "__version__",
]

_LAZY = {
    "AttCAT": "attcat",
    "AttentionGradCam": "attention_grad_cam",
    "AttentionRollout": "attention_rollout",
    "ConservativeLRP": "conservative_lrp",
    "Contribution": "contribution",
    "GenericAttention": "generic_attention",
    "LatentTokenAttribution": "latent_token",
    "LRP": "lrp",
    "LeGrad": "legrad",
    "PartialLRP": "partial_lrp",
    "RawAttention": "raw_attention",
    "SpanContribution": "contribution",
    "TokenContribution": "token_contribution",
    "TokenTM": "token_tm",
    "TransformerAttribution": "transformer_attribution",
}


def __getattr__(name: str) -> Any:
    """Import torch and captum when they are first needed, so that the command line answers at once."""
    if name in _LAZY:
        return getattr(import_module(f"captum_ultra.attr.{_LAZY[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
