"""Layer-wise relevance propagation to the input."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from captum_ultra.attr.asked import Asked
from captum_ultra.attr.attribution import TokenAttribution
from captum_ultra.attr.propagated import propagated
from captum_ultra.attr.runs import Need, Propagated

__all__ = ["LRP", "RuleSet"]


@dataclass(frozen=True)
class RuleSet:
    """The choice of methods of layer-wise relevance propagation.

    Attributes:
        rules: "conserving" (those of transformer attribution) or "published" (those of the compared baselines).
    """

    rules: str = "conserving"

    def __post_init__(self) -> None:
        if self.rules not in ("conserving", "published"):
            raise ValueError(f"rules={self.rules!r} is unknown; possible: 'conserving', 'published'")

    def run(self, pixels: bool = False) -> Propagated:
        """The run that the rules need."""
        return Propagated(self.rules == "published", pixels)


class LRP(TokenAttribution):
    """Relevance of pixels, or of the tokens that enter the first block, summed over channels; signed.

    Of a class, relevance starts as 1 at its logit; of a latent token it starts as what each of its channels adds to its
    score. On images ``output="input"`` and ``"channels"`` go down to the pixels.

    Arguments as in :class:`captum_ultra.attr.attribution.TokenAttribution`, and ``rules``: "conserving", the rules of
    transformer attribution (alpha = 1, sums renormalised), or "published", those of "LRP" in the compared tables
    (``x+ w+`` and ``x- w-`` over a sum each, plain shares in sums): relevance doubles at every linear layer. Targets
    are explained one after another.

    Source:
        Bach et al., On Pixel-Wise Explanations (2015); rules of Chefer, Gur and Wolf (CVPR 2021), section 3.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> LRP(ViTClassifier()).attribute(torch.rand(2, 3, 64, 64), target=1).shape
        torch.Size([2, 1, 64, 64])
    """

    choices = RuleSet
    class_scores = ("logit",)

    def needs(self, layer: int, choices: Any) -> list[Need]:
        return [Need(choices.run(pixels), 0, (0, layer)) for pixels in (False, True)]

    def rows(self, asked: Asked) -> Tensor:
        return propagated(asked, asked.choices.run())[0].sum(-1)

    def pixels(self, asked: Asked) -> Tensor:
        return propagated(asked, asked.choices.run(pixels=True))[0]
