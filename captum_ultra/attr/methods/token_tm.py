"""TokenTM: how much the blocks transform every token, beside how they mix them."""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from captum_ultra.attr.asked import Asked
from captum_ultra.attr.attribution import TokenAttribution
from captum_ultra.attr.pooled import patches_read, pull_back_attended
from captum_ultra.attr.questions import seen_tokens
from captum_ultra.attr.runs import Attended, Need
from captum_ultra.relevance import Flow, TransformationWeights, gradient_weighted

__all__ = ["TokenTM"]


@dataclass(frozen=True)
class TokenTMChoices:
    """The choices of TokenTM; see there."""

    aggregation: bool = True
    length: bool = True
    necc: bool = True
    necc_scale: str | None = None
    first_blocks: int | None = None

    def __post_init__(self) -> None:
        if self.necc_scale not in (None, "one", "n"):
            raise ValueError(f"necc_scale={self.necc_scale!r} is unknown; possible: 'one', 'n'")
        if self.first_blocks is not None and not self.aggregation:
            raise ValueError("first_blocks aggregates, so it needs aggregation=True")

    def weights(self, pooled: bool = False) -> TransformationWeights:
        """The factors of a target; ``pooled``: of a class that is read at several patches."""
        return TransformationWeights(self.length, self.necc, self.necc_scale or ("n" if pooled else "one"))


class TokenTM(TokenAttribution):
    """Token Transformation Matters: relevance scaled by how attention and MLP change the tokens.

    With E the residual stream below a sublayer and E~ what the sublayer adds, per head in an attention:

    - C^0 = diag(||E^0_i||);
    - attention: ``U = I + mean_h[ relu(dA_h) * (A_h W_h) ]``, ``W_h = diag(||E~_hi|| / ||E_i|| * NECC_h(i))``;
    - feed-forward: ``U = I + W``;
    - ``C <- U C`` over all sublayers, and of it the row of the explained token.

    NECC is the softmax over all tokens of the cosine of E_i and E~_i; padding is left out. The gradient of a class is
    that of its probability. E~ includes the scale of a LayerScale, and of the attention not the output projection's
    bias. Beyond the paper, the rule explains any latent token as well.

    Arguments as in :class:`captum_ultra.attr.attribution.TokenAttribution`, and:

    - ``aggregation``: multiply over blocks; False takes the last block alone (table 6);
    - ``length``, ``necc``: whether the ratio of lengths, and NECC, are factors of the weights (table 6). Without both
      this is GAE;
    - ``necc_scale``: "one", as the paper prints it: NECC sums to one over the tokens, so that it is small beside the
      identity; "n" multiplies it by the number of tokens. When None, "n" where a class is read at several patches,
      whose maps leave the identity out, and "one" otherwise;
    - ``first_blocks``: aggregate over the first so many blocks only (table 7); all when None.

    Source:
        Wu, Duan, Kang, Tang and Yan, Token Transformation Matters: Towards Faithful Post-hoc Explanation for Vision
        Transformer (CVPR 2024), section 3.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> TokenTM(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), target=1, necc_scale="n").shape
        torch.Size([2, 1, 64, 64])
    """

    choices = TokenTMChoices
    default_class_score = "probability"

    def needs(self, layer: int, choices: Any) -> list[Need]:
        blocks = choices.first_blocks
        if blocks is not None and not 1 <= operator.index(blocks) <= layer:
            raise ValueError(
                f"first_blocks={blocks}: there are {layer} blocks below what is explained, take 1..{layer}"
            )
        first, layers = 0 if choices.aggregation else layer - 1, {layer, blocks or layer}
        return [Need(Attended(observed=choices.weights().any), first, tuple({first, *layers}))]

    def rows(self, asked: Asked) -> Tensor:
        (need,) = self.needs(asked.layer, asked.choices)
        explained, run = asked.explained(need.kind), asked.run(need.kind)
        weights = asked.choices.weights(patches_read(asked, explained) is not None)
        explained = replace(explained, layer=asked.choices.first_blocks or asked.layer)
        if not weights.any:
            return pull_back_attended(asked, explained, Flow(gradient_weighted), need.first)
        keys, tokens = run.graph.observer.weights(weights, seen_tokens(asked.runs, run))
        embedding = run.trace.latents[need.first].detach()
        lengths = embedding.to(torch.promote_types(embedding.dtype, torch.float32)).norm(dim=-1)
        flow = Flow(gradient_weighted, keys=keys, tokens=tokens)
        return pull_back_attended(asked, explained, flow, need.first, lengths)
