"""Generic attention explainability: relevance weighted by the gradients of attention."""

from __future__ import annotations

from torch import Tensor

from captum_ultra.attr.asked import Asked, StartLayer
from captum_ultra.attr.attribution import TokenAttribution
from captum_ultra.attr.pooled import pull_back_attended
from captum_ultra.relevance import Flow, gradient_weighted

__all__ = ["GenericAttention"]


class GenericAttention(TokenAttribution):
    """GAE: R = I, then in every block ``R <- R + mean_h relu(dA_h * A_h) R``; the row of the explained token.

    Of a latent token this is ULTra (arXiv 2411.12589, contribution maps).

    Arguments as in :class:`captum_ultra.attr.attribution.TokenAttribution`, and ``start_layer``: the first block of the
    product (0); -1 takes the last block alone, as the authors do for CLIP.

    Source:
        Chefer, Gur and Wolf, Generic Attention-model Explainability (ICCV 2021), eqs. 5 and 6.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> method, images = GenericAttention(ViTClassifier()), torch.zeros(2, 3, 64, 64)
        >>> method.attribute(images, target=1).shape, method.attribute(images, token=(3, 4), layer=2).shape
        (torch.Size([2, 1, 64, 64]), torch.Size([2, 1, 64, 64]))
    """

    choices = StartLayer

    def rows(self, asked: Asked) -> Tensor:
        first = self.first(asked.layer, asked.choices)
        return pull_back_attended(asked, asked.explained(), Flow(gradient_weighted), first)
