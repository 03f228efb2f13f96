"""What the operations of one trace share: gradient scales, and where numbers stopped being finite."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_ultra.errors import UnsupportedModelError

__all__ = ["Ledger"]


class Ledger:
    """A small record that operations write and the pull-back reads.

    It holds flags as tensors, so that an accelerator is asked once at the end and not once a
    layer, and it refers to no graph, so that a trace is freed as soon as it is dropped.
    """

    def __init__(self) -> None:
        self.gradient_scale: float | Tensor = 1.0  # of all targets, or of each [T, B]
        self.cut_below = 0  # blocks below this one may be cut off on purpose, by interventions of the caller
        self._forward: dict[int, Tensor] = {}
        self._backward: dict[int, Tensor] = {}
        self._dropped: dict[int, Tensor] = {}

    def unscale(self, product: Tensor) -> Tensor:
        """Undo, in [T, B, ...], the powers of two by which half-precision gradients are kept away from underflow."""
        scale = self.gradient_scale
        if not isinstance(scale, Tensor):
            return product if scale == 1.0 else product / scale
        return product / scale.reshape(*scale.shape, *[1] * (product.dim() - 2)).to(product)

    def note_forward(self, layer: int, latents: Tensor) -> None:
        self._forward[layer] = torch.isfinite(latents.detach()).all()

    def note_backward(self, block: int, relevance: Tensor) -> None:
        _and(self._backward, block, torch.isfinite(relevance).all())

    def note_extra_keys(self, block: int, gradient: Tensor) -> None:
        """Columns beyond the tokens are a sink only if the model drops them: their gradient is zero."""
        _and(self._dropped, block, (gradient == 0).all())

    def check_connected(self, block: int, gradient: Tensor | None) -> None:
        """Raise when no gradient, not even zeros, reaches a block's attention and nobody meant that.

        Raises:
            UnsupportedModelError: names the block and what cuts gradients off.
        """
        if gradient is None and block >= self.cut_below:
            raise UnsupportedModelError(
                f"no gradient reaches the attention of block {block}: something after it has no backward pass (a "
                "quantised or fused kernel) or cuts gradients off (detach). Explain the model without it, in float32 "
                "or bfloat16"
            )

    def check_forward(self) -> None:
        """Raise ``ValueError`` naming the first layer whose latents are not finite."""
        for layer in sorted(self._forward):
            if not self._forward[layer]:
                raise ValueError(
                    f"the latents at layer {layer} contain NaN or infinity; explanations need finite numbers: "
                    "check the input, the weights, and the precision (float16 overflows above 65504)"
                )

    def check_backward(self) -> None:
        """Raise naming the highest block whose gradients are not finite, or whose sink is none.

        Raises:
            ValueError: for gradients that are not finite.
            UnsupportedModelError: for keys beside the tokens that the output depends on.
        """
        for block in sorted(self._backward, reverse=True):
            if not self._backward[block]:
                raise ValueError(
                    f"the gradients in block {block} (between layers {block} and {block + 1}) contain NaN or "
                    "infinity; check the score, the weights, and the precision (try float32 or bfloat16)"
                )
        for block, dropped in self._dropped.items():
            if not dropped:
                raise UnsupportedModelError(
                    f"block {block} attends to keys beside its tokens (a key-value prefix or an added bias key), "
                    "which bring in information from elsewhere: remove the prefix before explaining"
                )


def _and(flags: dict[int, Tensor], block: int, flag: Tensor) -> None:
    before = flags.get(block)
    flags[block] = flag if before is None else before & flag
