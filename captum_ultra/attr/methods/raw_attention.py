"""Raw attention of the last block."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from captum_ultra.attr.asked import Asked
from captum_ultra.attr.attribution import TokenAttribution
from captum_ultra.relevance import Flow, pull_back, rollout

__all__ = ["RawAttention"]


class RawAttention(TokenAttribution):
    """The row of the explained token in the attention of the block just passed, mean over heads.

    Of a class it is the row where the class is read (CLS). Gradients, the class and the score play no part.

    Arguments as in :class:`captum_ultra.attr.attribution.TokenAttribution`.

    Source:
        The baseline of Chefer, Gur and Wolf (CVPR 2021), section 4.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> RawAttention(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 1, 64, 64])
    """

    needs_class = False

    def first(self, layer: int, choices: Any) -> int:
        return layer - 1

    def rows(self, asked: Asked) -> Tensor:
        return pull_back(asked.explained(), Flow(rollout, residual=False), to=asked.layer - 1)
