"""Grad-CAM on the attention of the last block."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from captum_ultra.attr.asked import Asked
from captum_ultra.attr.attribution import TokenAttribution
from captum_ultra.relevance import Flow, pull_back, row_gradient

__all__ = ["AttentionGradCam"]


class AttentionGradCam(TokenAttribution):
    """The explained token's attention in the block just passed, every head weighted by its mean gradient.

    ``relu(mean_h(A_h * w_h))`` with ``w_h`` the mean of dA_h over the patches (of a text, over all tokens), padding
    left out, both in the row of the token; of a class in the rows where it is read (CLS).

    Arguments as in :class:`captum_ultra.attr.attribution.TokenAttribution`.

    Source:
        Selvaraju et al., Grad-CAM (ICCV 2017), as Chefer, Gur and Wolf (CVPR 2021), section 4, apply it to attention.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> AttentionGradCam(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), target=1).shape
        torch.Size([2, 1, 64, 64])
    """

    def first(self, layer: int, choices: Any) -> int:
        return layer - 1

    def rows(self, asked: Asked) -> Tensor:
        explained = asked.explained()
        flow = Flow(row_gradient(asked.runs.layout.patches), residual=False)
        return pull_back(explained, flow, to=asked.layer - 1).clamp(min=0)
