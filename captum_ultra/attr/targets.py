"""Which latent tokens are explained, and where: the arguments ``token``, ``target`` and ``layer``."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.adapters import TokenLayout
from captum_ultra.errors import warn_caller

__all__ = ["Layer", "Layers", "Targets", "Token", "layer_number", "layer_numbers", "parse_targets"]

Layer = int | str | nn.Module
Layers = Layer | Sequence[Layer]
Patch = tuple[int, int]
Token = int | str | Patch | Sequence[int] | Sequence[Patch] | Tensor


@dataclass(frozen=True)
class Targets:
    """What the caller asked for, before the number of tokens is known.

    ``per_sample`` [B] or [B, T] names the tokens of each sample by itself; ``single`` says whether the result has
    one map a sample or an axis of targets.
    """

    token: str | list[int | Patch] | None
    per_sample: Tensor | None
    single: bool

    @property
    def named(self) -> bool:
        """Whether single tokens are named, rather than all tokens or all patches."""
        return not isinstance(self.token, str)

    @property
    def from_the_end(self) -> bool:
        """Whether a token is counted from the end."""
        if self.per_sample is not None:
            return bool((self.per_sample < 0).any())
        return self.named and any(isinstance(each, int) and each < 0 for each in self.token or ())

    def indices(self, layout: TokenLayout, batch: int, device: torch.device, padding: Tensor | None = None) -> Tensor:
        """Token indices [B, T] within 0..n-1.

        Args:
            layout: of the tokens.
            batch: number of samples.
            device: of the result.
            padding: True for the tokens [B, n] that are padding; negative indices count from the last that is none.

        Raises:
            ValueError: for a token that the model does not have; says which exist.
        """
        if self.per_sample is not None:
            if len(self.per_sample) not in (1, batch):
                raise ValueError(
                    f"target: {len(self.per_sample)} tokens for a batch of {batch}; give one token a sample"
                )
            found = self.per_sample.to(device).reshape(len(self.per_sample), -1).expand(batch, -1)
        else:
            found = torch.tensor(self._shared(layout), device=device).expand(batch, -1)
        wrapped = torch.where(found < 0, found + layout.tokens, found)
        if ((wrapped < 0) | (wrapped >= layout.tokens)).any():
            wrong = found[(wrapped < 0) | (wrapped >= layout.tokens)][0].item()
            raise ValueError(
                f"token {wrong} does not exist: the model sees {layout.tokens} tokens (0..{layout.tokens - 1}; "
                f"{_describe(layout)})"
            )
        if padding is None or not padding.any() or not self.named:
            return wrapped
        padding = padding.to(device)
        real = (~padding).sum(1, keepdim=True)
        if ((found < 0) & (found + real < 0)).any():
            raise ValueError(
                f"token {int(found.min())} does not exist: a sample of the batch has {int(real.min())} tokens beside "
                "its padding"
            )
        places = padding.to(torch.int8).argsort(dim=1, stable=True)  # the tokens that are none come first
        wrapped = wrapped.where(found >= 0, places.gather(1, (found + real).where(found < 0, 0)))
        if padding.gather(1, wrapped).any():
            sample, target = padding.gather(1, wrapped).nonzero()[0].tolist()
            warn_caller(
                f"token {int(wrapped[sample, target])} of sample {sample} is padding, which holds nothing of the text; "
                "negative indices count from the last token that is none"
            )
        return wrapped

    def _shared(self, layout: TokenLayout) -> list[int]:
        if self.token == "all":
            return list(range(layout.tokens))
        if self.token == "patches":
            if layout.grid is None:
                raise ValueError(
                    f'token="patches" needs an image with a grid of patches: {layout.reason}; use "all" or indices'
                )
            return layout.patches
        assert self.token is not None
        return [_patch_index(each, layout) if isinstance(each, tuple) else each for each in self.token]  # type: ignore[misc]


def parse_targets(token: Token, target: Any) -> Targets:
    """Check ``token`` and ``target`` as far as possible without running the model.

    Args:
        token: an index, several, a (row, col) patch, several in a list, "all" or "patches".
        target: tokens of each sample by itself: one [B], or several [B, T].

    Raises:
        ValueError, TypeError: say what was given and what is possible.
    """
    if isinstance(target, tuple):
        raise TypeError(
            f"target={target!r}: give a list or a tensor with one token a sample [B], or several [B, T]; a (row, col) "
            "patch is token="
        )
    if target is not None:
        if not (isinstance(token, int) and token == 0):
            raise ValueError(f"give either token={token!r} or target={target!r}, not both")
        tokens = _integers(target, "target")
        if tokens.dim() > 2:
            raise ValueError(f"target: tokens of each sample are [B] or [B, T], got {list(tokens.shape)}")
        return Targets(None, tokens.reshape(-1) if tokens.dim() < 2 else tokens, single=tokens.dim() < 2)
    if isinstance(token, str):
        if token not in ("all", "patches"):
            raise ValueError(f'token={token!r} is unknown; possible: an index, several, (row, col), "all", "patches"')
        return Targets(token, None, single=False)
    if isinstance(token, tuple) and len(token) == 2:
        return Targets([_index_or_patch(token)], None, single=True)
    if isinstance(token, list | tuple) and any(isinstance(each, tuple) for each in token):
        if any(isinstance(each, tuple) and len(each) != 2 for each in token):
            raise ValueError(f"token={token!r}: a patch is (row, col)")
        return Targets([_index_or_patch(each) for each in token], None, single=False)
    indices = _integers(token, "token")
    if indices.dim() > 1:
        raise ValueError(f"token must be an index or a flat sequence of indices, got {token!r}; tokens of each sample "
                         "are target=")  # fmt: skip
    return Targets(indices.reshape(-1).tolist(), None, single=indices.dim() == 0)


def layer_numbers(layer: Layers, model: nn.Module, blocks: Sequence[nn.Module]) -> tuple[list[int], bool]:
    """The numbers of one or several layers, and whether several were asked for.

    Raises:
        ValueError: for layers that do not exist, an empty list, or one that names a layer twice.
    """
    several = isinstance(layer, Sequence) and not isinstance(layer, str)
    asked: list[Any] = list(layer) if several else [layer]  # type: ignore[arg-type]
    if not asked:
        raise ValueError("layer: an empty list was given; name at least one layer")
    numbers = [layer_number(each, model, blocks) for each in asked]
    twice = [each for place, each in enumerate(numbers) if each in numbers[:place]]
    if twice:
        raise ValueError(f"layer={asked!r} names layer {twice[0]} of {len(blocks)} twice; name each layer once")
    return numbers, several


_HOOKS = {".hook_out": 1, ".hook_resid_post": 1, ".hook_in": 0, ".hook_resid_pre": 0}


def layer_number(layer: Layer, model: nn.Module, blocks: Sequence[nn.Module]) -> int:
    """The number of blocks passed, 0..L; a block (or its name) means: after that block.

    The names of TransformerLens for what enters and what leaves a block are understood as well.

    Raises:
        ValueError: if there is no such layer.
    """
    named, after = layer, 1
    if isinstance(layer, str):
        modules = dict(model.named_modules())
        end = next((end for end in _HOOKS if layer.endswith(end)), "")
        named, after = modules.get(layer.removesuffix(end), layer), _HOOKS.get(end, 1)
    if isinstance(named, nn.Module):
        for index, block in enumerate(blocks):
            if block is named:
                return index + after
    if isinstance(named, str | nn.Module):
        names = {module: name for name, module in model.named_modules()}
        raise ValueError(
            f"layer={layer!r} is not a block of the model; its blocks are "
            f"{', '.join(names.get(block, '?') for block in blocks)}"
        )
    try:
        number = operator.index(layer)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"layer must be a number, a block or a block's name, got {layer!r}") from None
    if not -len(blocks) - 1 <= number <= len(blocks):
        raise ValueError(
            f"layer={number} does not exist: with {len(blocks)} blocks there are layers 0 (the embedding) "
            f"to {len(blocks)} (after the last block), or -1 to -{len(blocks) + 1}"
        )
    return number % (len(blocks) + 1)


def _index_or_patch(token: Any) -> int | Patch:
    return (operator.index(token[0]), operator.index(token[1])) if isinstance(token, tuple) else operator.index(token)


def _integers(value: Any, name: str) -> Tensor:
    tensor = torch.as_tensor(value) if not isinstance(value, Tensor) else value.detach()
    if tensor.numel() == 0:
        raise ValueError(f"{name} must name at least one token, got {value!r}")
    if tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool:
        raise TypeError(f"{name} must be integers, got {value!r}")
    return tensor.long()


def _patch_index(patch: tuple[int, int], layout: TokenLayout) -> int:
    if layout.grid is None:
        raise ValueError(
            f"token={patch} is a (row, col) patch, which needs an image with a grid of patches: {layout.reason}; for "
            "several tokens give a list"
        )
    (row, column), (rows, columns) = patch, layout.grid
    if not (0 <= row < rows and 0 <= column < columns):
        raise ValueError(
            f"token={patch}: the patch grid is {rows} x {columns}, rows 0..{rows - 1}, columns 0..{columns - 1}"
        )
    return layout.patches[row * columns + column]


def _describe(layout: TokenLayout) -> str:
    if layout.grid is None:
        return layout.reason
    return f"{layout.prefix} before a patch grid of {layout.grid[0]} x {layout.grid[1]}"
