"""LeGrad: gradients of the attention maps, layer by layer."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from captum_ultra.attr.asked import Asked
from captum_ultra.attr.attribution import TokenAttribution
from captum_ultra.attr.questions import seen_tokens
from captum_ultra.attr.runs import Attended, Need
from captum_ultra.relevance import Flow, gradient_rows, pull_back

__all__ = ["LeGrad"]


class LeGrad(TokenAttribution):
    """The mean over blocks of ``relu(ds_b/dA_b)``, averaged over heads and query rows.

    s_b is what is explained as it is read off the tokens after block b: the class by the model's own norm and head, a
    latent token by its score. Padding is left out. ``rescale=True`` is the authors' last step.

    Arguments as in :class:`captum_ultra.attr.attribution.TokenAttribution`.

    Source:
        Bousselham et al., LeGrad: An Explainability Method for Vision Transformers via Feature Formation Sensitivity
        (2024), eqs. 4 to 8.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> LeGrad(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), target=1).shape
        torch.Size([2, 1, 64, 64])
    """

    def needs(self, layer: int, choices: Any) -> list[Need]:
        return [Need(Attended(), 0, tuple(range(layer + 1)))]

    def rows(self, asked: Asked) -> Tensor:
        explained, run = asked.explained(), asked.run()
        seen = seen_tokens(asked.runs, run)
        queries, flow = seen.double() / seen.sum(1, keepdim=True), Flow(gradient_rows, residual=False)
        batch, targets = explained.chosen.shape
        explained = replace(
            explained, chosen=torch.arange(targets, device=seen.device).expand(batch, -1), start=queries
        )
        layers = range(1, asked.layer + 1)
        found = [
            pull_back(replace(explained, layer=layer, scores=scores), flow, to=layer - 1)
            for layer, scores in zip(layers, asked.question.scores_at(asked.runs, run, layers), strict=True)
        ]
        return torch.stack(found).mean(0) * seen[:, None]
