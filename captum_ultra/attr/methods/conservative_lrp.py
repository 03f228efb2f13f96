"""Conservative and residual-weighted relevance: gradient times input of a model taken as a linear map of its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_ultra.attr.asked import Asked
from captum_ultra.attr.attribution import TokenAttribution
from captum_ultra.attr.runs import Need
from captum_ultra.relevance import gradients_below
from captum_ultra.relevance.lrp import LinearRules

__all__ = ["READINGS", "ConservativeLRP", "ResidualLRP", "read_rows"]

READINGS = ("signed", "positive", "absolute", "norm")


@dataclass(frozen=True)
class LinearChoices:
    """The choices of conservative relevance.

    Attributes:
        attention: "constant" probabilities, or "halves".
        gates: of activations: their "gradient", or "constant" or "halves".
        reading: of the tokens: the "signed" sum over channels, its "positive" part, its "absolute" value, or the
            "norm" of the gradient times that of the token.
    """

    attention: str = "constant"
    gates: str = "gradient"
    reading: str = "signed"

    def __post_init__(self) -> None:
        if self.reading not in READINGS:
            raise ValueError(f"reading={self.reading!r} is unknown; possible: {', '.join(map(repr, READINGS))}")
        self.run()

    def run(self) -> LinearRules:
        """The run that the rules need."""
        return LinearRules(self.attention, self.gates)


@dataclass(frozen=True)
class ResidualChoices(LinearChoices):
    """The choices of residual-weighted relevance.

    Attributes:
        gamma: how much more counts, in a residual sum, what agrees with it; at least 0.
    """

    gates: str = "constant"
    gamma: float = 3.0

    def run(self) -> LinearRules:
        return LinearRules(self.attention, self.gates, self.gamma)


class ConservativeLRP(TokenAttribution):
    """Gradient times input of the tokens that enter the first block, summed over channels; signed.

    In the graph of the gradient the attention probabilities and the standard deviations of normalisations are
    constants, which keeps relevance where the plain gradient loses it. Of a latent token the contributions are an
    account of its score: with all gates constant, they and the biases add up to it ("energy": to 1 where latents are
    normalised).

    Arguments as in :class:`captum_ultra.attr.attribution.TokenAttribution`, and:

    - ``attention``: probabilities are "constant", or, "halves", both factors of each product in it take half;
    - ``gates``: activations have their "gradient", or are constant factors of their input ("constant"; of a gated
      product the gate takes none; "halves": both factors take half);
    - ``reading``: "signed", "positive", "absolute", or the gradient's "norm" times the token's.

    Source:
        Ali et al., XAI for Transformers: Better Explanations through Conservative Propagation (ICML 2022), section 4.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> ConservativeLRP(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), target=1).shape
        torch.Size([2, 1, 64, 64])
    """

    choices = LinearChoices

    def needs(self, layer: int, choices: Any) -> list[Need]:
        return [Need(choices.run(), 0, (layer,))]

    def rows(self, asked: Asked) -> Tensor:
        explained, reading = asked.explained(asked.choices.run()), asked.choices.reading
        leaf = explained.trace.latents[0].detach()
        tokens = leaf.to(torch.promote_types(leaf.dtype, torch.float32))

        def read(layer: int, gradient: Tensor) -> Tensor | None:
            if layer > 0:
                return None
            of_tokens = gradient.to(tokens)
            if reading == "norm":
                return of_tokens.norm(dim=-1) * tokens.norm(dim=-1)
            return (of_tokens * tokens).sum(-1)

        rows = gradients_below(explained, read)
        if not rows.isfinite().all():
            raise ValueError("the relevance contains NaN or infinity: check the input, the weights, and the precision")
        return read_rows(rows, reading)


def read_rows(rows: Tensor, reading: str) -> Tensor:
    """Signed relevance as a reading takes it; rows of norms are what they are.

    Example:
        >>> read_rows(torch.tensor([-1.0, 2.0]), "absolute")
        tensor([1., 2.])
    """
    return {"positive": rows.clamp(min=0), "absolute": rows.abs()}.get(reading, rows)


class ResidualLRP(ConservativeLRP):
    """Conservative relevance in which, where a branch joins the stream, what agrees with their sum counts more; signed.

    At every residual sum ``y = x + u``, entry by entry, x has the share ``w(x) x / (w(x) x + w(u) u)`` of y's relevance
    and u the rest, with ``w(t) = 1 + gamma [t y > 0]``. Attention probabilities, scales of normalisations and gates are
    constants. For latent tokens this rule is near the best of the family for single claims and in images; for whole
    summaries conservative relevance with constant gates is better (docs: which method for which token).

    Arguments as in :class:`captum_ultra.ConservativeLRP`, with ``gates="constant"``, and ``gamma`` (3; 0 shares as the
    ordinary gradient does).

    Source:
        Residual-weighted relevance propagation (ResLRP, 2026); the residual rule, for class logits and for latents.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit import ViTConfig, VisionTransformer
        >>> model = VisionTransformer(ViTConfig(dim=16, depth=2, heads=2))
        >>> ResidualLRP(model).attribute(torch.rand(2, 3, 64, 64), token=(4, 4), layer=2).shape
        torch.Size([2, 1, 64, 64])
    """

    choices = ResidualChoices
