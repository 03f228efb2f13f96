"""Explain what a transformer's latent tokens hold, and which input put it there."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from captum_ultra.errors import UnsupportedModelError

if TYPE_CHECKING:
    from captum_ultra.attr.contribution import Contribution, SpanContribution
    from captum_ultra.attr.latent_token import LatentTokenAttribution
    from captum_ultra.attr.token_contribution import TokenContribution

__version__ = "0.1.0"
__all__ = [
    "Contribution",
    "LatentTokenAttribution",
    "SpanContribution",
    "TokenContribution",
    "UnsupportedModelError",
    "__version__",
]

_LAZY = {
    "Contribution": "captum_ultra.attr.contribution",
    "LatentTokenAttribution": "captum_ultra.attr.latent_token",
    "SpanContribution": "captum_ultra.attr.contribution",
    "TokenContribution": "captum_ultra.attr.token_contribution",
}


def __getattr__(name: str) -> Any:
    """Import torch and captum when they are first needed, so that the command line answers at once."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
