"""Partial LRP: the relevance of the last attention map."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from captum_ultra.attr.asked import Asked
from captum_ultra.attr.attribution import TokenAttribution
from captum_ultra.attr.methods.lrp import RuleSet
from captum_ultra.attr.propagated import propagated
from captum_ultra.attr.runs import Attended, Need

__all__ = ["PartialLRP"]


class PartialLRP(TokenAttribution):
    """The explained token's row of the relevance R_A of the block just passed: positive parts, mean over heads.

    Arguments as in :class:`captum_ultra.attr.attribution.TokenAttribution`, and ``rules``: as in
    :class:`captum_ultra.LRP`.

    Source:
        Voita et al., Analyzing Multi-Head Self-Attention (ACL 2019), as Chefer, Gur and Wolf (CVPR 2021), section 4,
        apply it.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> PartialLRP(ViTClassifier()).attribute(torch.rand(2, 3, 64, 64), target=1).shape
        torch.Size([2, 1, 64, 64])
    """

    choices = RuleSet
    class_scores = ("logit",)

    def needs(self, layer: int, choices: Any) -> list[Need]:
        return [Need(kind, layer - 1, (layer - 1, layer)) for kind in (Attended(), choices.run())]

    def rows(self, asked: Asked) -> Tensor:
        weights = asked.explained().rows()  # [B, T, n], where the targets are read
        _, maps = propagated(asked, asked.choices.run(), first=asked.layer - 1)
        found = torch.zeros_like(weights)
        for target, of_block in enumerate(maps):
            for token in weights[:, target].any(0).nonzero().flatten().tolist():
                row = of_block[asked.layer - 1].row(token).clamp(min=0).mean(1)
                found[:, target] += weights[:, target, token, None] * row
        return found
