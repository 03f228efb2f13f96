"""Explain what a transformer's latent tokens hold, and which input put it there."""

from typing import TYPE_CHECKING, Any

from captum_ultra.errors import UnsupportedModelError

if TYPE_CHECKING:
    from captum_ultra.attr.latent_token import LatentTokenAttribution

__version__ = "0.1.0"
__all__ = ["LatentTokenAttribution", "UnsupportedModelError", "__version__"]


def __getattr__(name: str) -> Any:
    """Import torch and captum when they are first needed, so that the command line answers at once."""
    if name == "LatentTokenAttribution":
        from captum_ultra.attr.latent_token import LatentTokenAttribution

        return LatentTokenAttribution
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
