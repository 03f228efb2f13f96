"""AttCAT: attentive class activation of every token, in every block."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from captum_ultra.attr.asked import Asked
from captum_ultra.attr.attribution import TokenAttribution
from captum_ultra.attr.questions import seen_tokens
from captum_ultra.attr.runs import Attended, Need
from captum_ultra.relevance import Flow, gradients_below, pull_back, rollout

__all__ = ["AttCAT"]


class AttCAT(TokenAttribution):
    """Sum over blocks of gradient times latent, weighted by the attention that a token receives; signed.

    ``sum_b (dy/dh_b * h_b).sum(channels) * mean(A_b)``, h_b the tokens that enter block b, the mean over heads and
    query rows, padding left out; y the explained scalar.

    Arguments as in :class:`captum_ultra.attr.attribution.TokenAttribution`.

    Source:
        Qiang et al., AttCAT: Explaining Transformers via Attentive Class Activation Tokens (NeurIPS 2022), eqs. 6 to 8.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> AttCAT(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), target=1).shape
        torch.Size([2, 1, 64, 64])
    """

    def needs(self, layer: int, choices: Any) -> list[Need]:
        return [Need(Attended(), 0, tuple(range(layer + 1)))]

    def rows(self, asked: Asked) -> Tensor:
        explained, run = asked.explained(begins=False), asked.run()
        seen = seen_tokens(asked.runs, run).to(torch.float64)
        queries, flow = seen / seen.sum(1, keepdim=True), Flow(rollout, residual=False)
        alone = replace(explained, chosen=explained.chosen[:, :1] * 0, start=queries, progress=False)
        # What a block's tokens receive does not depend on the target.
        received = [pull_back(replace(alone, layer=block + 1), flow, to=block)[:, 0] for block in range(asked.layer)]
        streams = [run.trace.latents[block].detach() for block in range(asked.layer)]

        def read(layer: int, gradient: Tensor) -> Tensor | None:
            return (gradient * streams[layer]).sum(-1) * received[layer] if layer < asked.layer else None

        return gradients_below(explained, read)
