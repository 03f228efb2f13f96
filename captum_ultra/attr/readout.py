"""Where a class is read: by which tokens of the last layer, and whether off other layers as well."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from captum_ultra.errors import UnsupportedModelError, warn_caller
from captum_ultra.relevance import Trace, gradients

__all__ = ["shares_of_gradient", "warn_of_other_layers"]


def shares_of_gradient(name: str, logits: Tensor, latents: Tensor, classes: Tensor | None) -> Tensor:
    """The part [B, T, n] that every token has in the gradients of logits, by lengths; [B, n] if all have the same.

    CLS alone in a model that classifies by it, both tokens of a distilled DeiT, all patches of a model that averages
    them, CLS and patches where a head reads both, the last token of a causal classifier.

    Args:
        name: of the model.
        logits: class scores [B, K], in the graph of the run.
        latents: of the last layer [B, n, d].
        classes: whose logits are meant [B, T]; all of them together when None.

    Raises:
        UnsupportedModelError: if the scores of a sample depend on no token.
    """
    weights = torch.linspace(1, 2, logits.shape[1], device=logits.device).sin()  # any but equal ones
    lengths = _lengths(logits * weights, latents)
    sums = lengths.sum(1, keepdim=True)
    if not (sums > 0).all():
        raise UnsupportedModelError(
            f"{name}: the class scores of a sample do not depend on any token of the last layer, so there is nothing "
            "to explain (constant or saturated scores?)"
        )
    shares = lengths / sums
    if classes is None or not ((lengths > 0).sum(1) > 1).any():
        return shares
    of_classes = torch.stack([_lengths(logits.gather(1, each[:, None]), latents) for each in classes.T], 1)
    sums = of_classes.sum(-1, keepdim=True)
    return torch.where(sums > 0, of_classes / sums, shares[:, None])


def _lengths(scores: Tensor, latents: Tensor) -> Tensor:
    """The length of the gradient of scores at every token [B, n]."""
    (gradient,) = gradients(scores, [latents])
    return gradient.to(torch.promote_types(gradient.dtype, torch.float32)).norm(dim=-1)


def warn_of_other_layers(name: str, logits: Tensor, trace: Trace, layer: int) -> None:
    """Say what is left out where class scores depend on the blocks other than through what the last one gives.

    Nothing is computed: the graph of the scores is walked, which behind the last block holds a head alone.

    Args:
        name: of the model.
        logits: class scores, in the graph of the run.
        trace: of the run.
        layer: the last one.
    """
    cuts = trace.cuts
    if logits.requires_grad and cuts.reached_by([get_gradient_edge(logits)]) != [cuts.at_layer(layer)]:
        warn_caller(
            f"the class scores of {name} depend on latents of earlier layers beside those of layer {layer}, the last: "
            "its head reads several layers. Relevance begins at the last one alone, and what the head takes from the "
            "others is left out: ConservativeLRP, ResidualLRP and AttCAT follow every path"
        )
