"""Transformer attribution: attention weighted by its relevance and its gradient, through all blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from captum_ultra.attr.asked import Asked, start_of
from captum_ultra.attr.attribution import TokenAttribution
from captum_ultra.attr.pooled import patches_read, pull_back_attended
from captum_ultra.attr.propagated import propagated
from captum_ultra.attr.runs import Attended, Need, Propagated
from captum_ultra.relevance import Flow, gradient_weighted

__all__ = ["TransformerAttribution"]


@dataclass(frozen=True)
class TransformerAttributionChoices:
    """The choices of transformer attribution; see there."""

    start_layer: int | None = None


class TransformerAttribution(TokenAttribution):
    """The explained token's row of the product of ``C_b = I + mean_h relu(dA_h * R_A)``, R_A the relevance of A_h.

    R_A is never stored: layer-wise relevance propagation leaves one array as large as the values in each block,
    from which the parts of R_A are made where they are multiplied. Relevance starts from the logit whatever
    ``class_score`` is, the gradient from what it names.

    Arguments as in :class:`captum_ultra.attr.attribution.TokenAttribution`, and ``start_layer``: the first block of the
    product; when None 1, as the authors evaluate (0 if there is one block), and 0 for a class that is read at several
    patches, which was never evaluated. Targets are explained one after another.

    Source:
        Chefer, Gur and Wolf, Transformer Interpretability Beyond Attention Visualization (CVPR 2021), section 3.3.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> TransformerAttribution(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), target=1).shape
        torch.Size([2, 1, 64, 64])
    """

    choices = TransformerAttributionChoices

    def first(self, layer: int, choices: Any) -> int:
        return min(1, layer - 1) if choices.start_layer is None else start_of(choices.start_layer, layer)

    def needs(self, layer: int, choices: Any) -> list[Need]:
        first = self.first(layer, choices)
        lowest = 0 if choices.start_layer is None else first
        return [Need(kind, lowest, tuple({lowest, first, layer})) for kind in (Attended(), Propagated())]

    def rows(self, asked: Asked) -> Tensor:
        explained, first = asked.explained(), self.first(asked.layer, asked.choices)
        if asked.choices.start_layer is None and patches_read(asked, explained) is not None:
            first = 0
        _, maps = propagated(asked, Propagated(), first)
        return pull_back_attended(asked, explained, [Flow(gradient_weighted, cells=cells) for cells in maps], first)
