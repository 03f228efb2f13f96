"""How the tokens of one run are laid out: what comes before the patches, the patch grid, what comes after.

The grid is observed rather than computed from a configuration: a convolution before the first block
made the patches, so its output is the grid, non-square and dynamic input sizes included. Where the
patches stand among the tokens is observed as well, by the gradient from a token to the convolution.
Models that embed patches by a linear layer are measured by their token count.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.adapters.view import TransformerView
from captum_ultra.relevance.threads import in_this_thread

__all__ = ["TokenLayout", "watch_layout"]


@dataclass(frozen=True)
class TokenLayout:
    """n tokens; of an image, ``prefix`` tokens (CLS, registers) and then a (rows, columns) grid of patches.

    Tokens after the patches (detection tokens) are possible.
    """

    tokens: int
    prefix: int = 0
    grid: tuple[int, int] | None = None

    @property
    def patches(self) -> slice:
        """Where the patches stand; everything behind the prefix if there is no grid."""
        if self.grid is None:
            return slice(self.prefix, self.tokens)
        return slice(self.prefix, self.prefix + self.grid[0] * self.grid[1])


class LayoutObserver:
    """Filled during a run: the convolutions' outputs, then the layout when the first block starts."""

    def __init__(self, view: TransformerView, inputs: Tensor) -> None:
        self._view, self._inputs = view, inputs
        self._made: list[Tensor] = []

    def saw_convolution(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
        if output.dim() != 4 or not torch.is_grad_enabled():
            return None
        if not output.requires_grad:  # a leaf of the graph, to ask later which token it went into
            output = output.detach().requires_grad_()
        self._made.append(output)
        return output.clone()

    def layout(self, stream: Tensor) -> TokenLayout:
        """The layout of the tokens of a stream [B, n, d], as it enters the first block.

        Tokens that stand in no order that the grid explains get no grid: they have rows, but no map.
        """
        tokens, made = stream.shape[1], self._made
        self._made = []
        if self._inputs.dim() != 4:
            return TokenLayout(tokens)
        fitting = [each for each in made if each.shape[2] * each.shape[3] <= tokens]
        if fitting:
            patches = max(reversed(fitting), key=lambda each: each.shape[2] * each.shape[3])
            prefix = _place_of_patches(stream, patches)
            if prefix is None:
                return TokenLayout(tokens)
            return TokenLayout(tokens, prefix, (patches.shape[2], patches.shape[3]))
        for guess in (0, 1) if self._view.prefix is None else (self._view.prefix,):
            grid = _grid_like(tokens - guess, self._inputs.shape[2], self._inputs.shape[3])
            if grid is not None:
                return TokenLayout(tokens, guess, grid)
        return TokenLayout(tokens, self._view.prefix or 0)


def _place_of_patches(stream: Tensor, patches: Tensor) -> int | None:
    """The token that holds the first patch, if the last one stands where it should; else None."""
    count = patches.shape[2] * patches.shape[3]
    for prefix in range(stream.shape[1] - count, -1, -1):
        if _patch_in(stream, prefix, patches) == 0 and _patch_in(stream, prefix + count - 1, patches) == count - 1:
            return prefix
    return None


def _patch_in(stream: Tensor, token: int, patches: Tensor) -> int | None:
    """The patch that a token depends on most; None for a token that depends on none."""
    if not stream.requires_grad:
        return None
    weights = torch.linspace(1, 2, stream.shape[2], device=stream.device).sin()  # any but constant ones
    value = (stream[0, token].float() * weights).sum()
    (gradient,) = torch.autograd.grad(value, patches, retain_graph=True, allow_unused=True)
    strength = None if gradient is None else gradient[0].float().square().sum(0).flatten()
    return None if strength is None or not strength.any() else int(strength.argmax())


@contextmanager
def watch_layout(view: TransformerView, inputs: Tensor) -> Iterator[LayoutObserver]:
    """Watch the convolutions outside the blocks while the model runs, in this thread, inside the ``with``."""
    inside = {module for block in view.blocks for module in block.modules()}
    observer = LayoutObserver(view, inputs)
    outside = [module for module in view.model.modules() if isinstance(module, nn.Conv2d) and module not in inside]
    handles = [module.register_forward_hook(in_this_thread(observer.saw_convolution)) for module in outside]
    try:
        yield observer
    finally:
        for handle in handles:
            handle.remove()


def _grid_like(patches: int, height: int, width: int) -> tuple[int, int] | None:
    """The grid of so many patches with the input's aspect ratio, if there is exactly one."""
    for rows in range(1, patches + 1):
        columns, rest = divmod(patches, rows)
        if rest == 0 and rows * width == columns * height:
            return rows, columns
    return None
