"""Attention rollout: the product of the blocks' attention, with the residual connection."""

from __future__ import annotations

from torch import Tensor

from captum_ultra.attr.asked import Asked, StartLayer
from captum_ultra.attr.attribution import TokenAttribution
from captum_ultra.relevance import Flow, pull_back, rollout

__all__ = ["AttentionRollout"]


class AttentionRollout(TokenAttribution):
    """The explained token's row of the product of ``(A_b + I) / 2``, A_b the mean over heads.

    Rows of attention sum to one, so that a half is what normalising the rows of A + I comes to; where a model
    sends a share of its attention to a sink, that share is lost. Gradients, the class and the score play no part.

    Arguments as in :class:`captum_ultra.attr.attribution.TokenAttribution`, and ``start_layer``: the first block of the
    product (0); the evaluations of Chefer et al. leave out block 0 (1).

    Source:
        Abnar and Zuidema, Quantifying Attention Flow in Transformers (ACL 2020), section 3.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> AttentionRollout(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), start_layer=1).shape
        torch.Size([2, 1, 64, 64])
    """

    choices = StartLayer
    needs_class = False

    def rows(self, asked: Asked) -> Tensor:
        first = self.first(asked.layer, asked.choices)
        return pull_back(asked.explained(), Flow(rollout), to=first) * 0.5 ** (asked.layer - first)
