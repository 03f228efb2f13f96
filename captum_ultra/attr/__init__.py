"""Attribution methods with Captum's interface, one a file."""

from captum_ultra.attr.contribution import Contribution, SpanContribution
from captum_ultra.attr.latent_token import LatentTokenAttribution
from captum_ultra.attr.token_contribution import TokenContribution

__all__ = ["Contribution", "LatentTokenAttribution", "SpanContribution", "TokenContribution"]
