"""Normalisations whose scale is a constant in the graph, so that they are linear maps of their input."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["LINEAR_NORMS"]


def layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, bias: Tensor | None = None,
    eps: float = 1e-5, *_: Any,
) -> Tensor:  # fmt: skip
    """``F.layer_norm`` with a detached standard deviation.

    Example:
        >>> x = torch.tensor([[1.0, 3.0]], requires_grad=True)
        >>> torch.autograd.grad(layer_norm(x, [2])[0, 0], x)     # 1/2 and -1/2; the ordinary gradient is zero
        (tensor([[ 0.5000, -0.5000]]),)
    """
    axes = tuple(range(-len(normalized_shape), 0))
    return _affine(_scaled(_centred(input, axes), axes, eps), weight, bias).to(input.dtype)


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """``F.rms_norm`` with a detached root mean square."""
    axes = tuple(range(-len(normalized_shape), 0))
    eps = torch.finfo(input.dtype).eps if eps is None else eps
    return _affine(_scaled(_wide(input), axes, eps), weight, None).to(input.dtype)


def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5,
    *_: Any,
) -> Tensor:  # fmt: skip
    """``F.group_norm`` of [B, C, ...] with detached standard deviations."""
    grouped = input.reshape(len(input), num_groups, -1)
    normalised = _scaled(_centred(grouped, (-1,)), (-1,), eps).view(input.shape)
    channels = (-1,) + (1,) * (input.dim() - 2)
    weight, bias = (None if each is None else each.view(channels) for each in (weight, bias))
    return _affine(normalised, weight, bias).to(input.dtype)


LINEAR_NORMS: dict[Any, Callable[..., Tensor]] = {
    F.layer_norm: layer_norm, torch.layer_norm: layer_norm, F.group_norm: group_norm, torch.group_norm: group_norm,
    F.rms_norm: rms_norm, torch.rms_norm: rms_norm,
}  # fmt: skip


def _wide(x: Tensor) -> Tensor:
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _centred(x: Tensor, axes: tuple[int, ...]) -> Tensor:
    x = _wide(x)
    return x - x.mean(axes, keepdim=True)


def _scaled(x: Tensor, axes: tuple[int, ...], eps: float) -> Tensor:
    return x * (x.detach().square().mean(axes, keepdim=True) + eps).rsqrt()


def _affine(x: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    x = x if weight is None else x * weight.to(x)
    return x if bias is None else x + bias.to(x)
