"""Why some scores explain nothing: behind a LayerNorm, sum and norm of a latent are constants."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from captum_ultra.errors import warn_caller

__all__ = ["warn_if_constant"]

# Share of a gradient that must survive the LayerNorm; rounding leaves a little of a constant's.
_VANISHED = 1e-3
_VIEWS = ("TransposeBackward0", "ViewBackward0", "AliasBackward0")


def warn_if_constant(latents: Tensor, score: Callable[[Tensor], Tensor], layer: int) -> None:
    """Warn when the latents come straight out of a LayerNorm that makes the score constant.

    A post-norm block (BERT) with affine weight 1 fixes the sum and the norm of its output; f_s and
    f_e then have no gradient and every map is the identity.
    """
    norm = latents.grad_fn
    while norm is not None and norm.name() in _VIEWS:
        norm = norm.next_functions[0][0]
    if norm is None or norm.name() != "NativeLayerNormBackward0":
        return
    node, slot = norm.next_functions[0]
    if node is None:
        return
    leaf = latents.detach().requires_grad_()
    with torch.inference_mode(False), torch.enable_grad():
        (gradient,) = torch.autograd.grad(score(leaf).sum(), leaf)
        generic = torch.linspace(-1, 1, gradient.shape[-1], device=gradient.device).sin().expand_as(gradient)
        before, reference = (
            torch.autograd.grad(latents, GradientEdge(node, slot), each.to(latents), retain_graph=True)[0].norm()
            for each in (gradient, generic * gradient.norm() / generic.norm())
        )
    if before <= _VANISHED * reference:
        warn_caller(
            f"the score is constant at layer {layer}: the block is post-norm, its output comes out of a LayerNorm "
            "that fixes sum and norm of every token, so the gradient is zero and the map holds nothing beside the "
            "target itself. Give a vector score [d] (a direction you ask about), or a callable"
        )
