"""Attribution methods with Captum's interface, one a file."""

from captum_ultra.attr.latent_token import LatentTokenAttribution

__all__ = ["LatentTokenAttribution"]
