"""Watching a model run: every attention map, as the operand that its values are multiplied by.

A softmax over keys is followed through whatever is done to it (mixing of heads, a difference of two maps, dropped
entries) to the product with the values. That operand is the map, and it stays a tensor of the graph.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

SOFTMAX = {F.softmax, torch.softmax, torch.Tensor.softmax, torch.special.softmax}
NORMALISERS = {torch.logsumexp, torch.Tensor.logsumexp}
PRODUCTS = {
    torch.matmul, torch.bmm, torch.einsum, torch.Tensor.matmul, torch.Tensor.bmm, torch.Tensor.__matmul__,
    torch.Tensor.__rmatmul__,
}  # fmt: skip


@dataclass
class Attention:
    """One product of a map with values.

    Attributes:
        probabilities: [..., queries, keys], in the graph.
        values: what they were multiplied by.
        output: what came of it.
        keys_axis: of ``values``.
        queries_axis: of ``output``.
    """

    probabilities: Tensor
    values: Tensor
    output: Tensor
    keys_axis: int = -2
    queries_axis: int = -2

    def by_head(self, maps: Tensor, batch: int) -> Tensor:
        """Maps or their gradients as [B, H, queries, keys]."""
        return maps.reshape(batch, -1, *maps.shape[-2:])


class StoredMaps(TorchFunctionMode):
    """Within: ``calls`` are the attentions that ran; ``held`` makes their outputs leaves of the graph."""

    def __init__(self, held: bool = False) -> None:
        super().__init__()
        self.held = held
        self.calls: list[Attention] = []
        self._maps: dict[int, tuple[Tensor, int, int]] = {}  # by identity: kept alive, queries, keys

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is F.multi_head_attention_forward:
            with mock.patch.object(F, "has_torch_function", lambda arguments: False), self:
                return func(*args, **kwargs)
        if func is F.scaled_dot_product_attention:
            return self._fused(*args, **kwargs)
        followed = [each for each in _tensors((*args, *kwargs.values())) if id(each) in self._maps]
        if func in PRODUCTS and followed:
            call = self._product(func, args)
            if call is not None:
                return call
        result = func(*args, **kwargs)
        if self.held and func in NORMALISERS and _tensors(args)[0].dim() > 2:
            return result.detach()  # of a softmax, as where a sink takes a part of it
        if func in SOFTMAX and _over_keys(result, args, kwargs):
            self._follow(result, result.shape[-2], result.shape[-1])
        elif followed:
            queries, keys = self._maps[id(followed[0])][1:]
            for each in _tensors(result if isinstance(result, tuple | list) else [result]):
                self._follow_if_map(each, queries, keys)
        return result

    def _follow(self, maps: Tensor, queries: int, keys: int) -> None:
        self._maps[id(maps)] = (maps, queries, keys)

    def _follow_if_map(self, result: Tensor, queries: int, keys: int) -> None:
        """What was made of a map is one if it still has both axes; without a sink's column too."""
        if not result.is_floating_point():
            return
        for still in (keys, keys - 1):
            sizes = list(result.shape)
            if queries in sizes and still in sizes and (queries != still or sizes.count(queries) > 1):
                self._follow(result, queries, still)
                return

    def _product(self, func: Any, args: Any) -> Tensor | None:
        if func is torch.einsum:
            equation, *operands = args
            operands = list(operands[0]) if isinstance(operands[0], list | tuple) else operands
        else:
            equation, operands = None, list(args[:2])
        if func is torch.Tensor.__rmatmul__:
            operands.reverse()
        known = [id(each) in self._maps for each in operands]
        if len(operands) != 2 or all(known):
            return None
        place = known.index(True)
        maps, values = operands[place], operands[1 - place]
        if isinstance(values, nn.Parameter):
            return None  # mixes heads
        if equation is not None:
            return self._einsum(equation, maps, values, place)
        output = torch.matmul(*operands)
        if place == 1:  # values^T A^T
            return self._keep(Attention(maps.transpose(-2, -1), values, output, -1, -1))
        return self._keep(Attention(maps, values, output))

    def _einsum(self, equation: str, maps: Tensor, values: Tensor, place: int) -> Tensor | None:
        left, _, out = equation.replace(" ", "").partition("->")
        names = left.split(",")
        of_maps, of_values = names[place], names[1 - place]
        summed = [each for each in of_maps if each not in out and each in of_values]
        own = [each for each in of_maps if each in out and each not in of_values]
        if len(summed) != 1 or len(own) != 1 or maps.shape[of_maps.index(summed[0])] != self._maps[id(maps)][2]:
            return None
        rest = [each for each in of_maps if each not in (summed[0], own[0])]
        order = "".join([*rest, own[0], summed[0]])
        ordered = torch.einsum(f"{of_maps}->{order}", maps)  # a view that the product goes through
        output = torch.einsum(f"{order},{of_values}->{out}", ordered, values)
        axes = of_values.index(summed[0]) - len(of_values), out.index(own[0]) - len(out)
        return self._keep(Attention(ordered, values, output, *axes))

    def _fused(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        if enable_gqa:
            key = key.repeat_interleave(query.shape[-3] // key.shape[-3], -3)
            value = value.repeat_interleave(query.shape[-3] // value.shape[-3], -3)
        scores = query @ key.transpose(-2, -1) * (query.shape[-1] ** -0.5 if scale is None else scale)
        if is_causal:
            attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            attn_mask = torch.zeros(attn_mask.shape, dtype=scores.dtype).masked_fill(~attn_mask, -math.inf)
        if attn_mask is not None:
            scores = scores + attn_mask
        nothing = scores.detach().amax(-1, keepdim=True) == -math.inf
        probabilities = scores.masked_fill(nothing, 0).softmax(-1).masked_fill(nothing, 0)
        return self._keep(Attention(probabilities, value, probabilities @ value))

    def _keep(self, call: Attention) -> Tensor:
        if self.held:
            call.output = call.output.detach().requires_grad_()
        self.calls.append(call)
        return call.output.clone() if self.held else call.output


def _tensors(values: Any) -> list[Tensor]:
    """The tensors among arguments, and in lists among them."""
    flat = [each for value in values for each in (value if isinstance(value, list | tuple) else [value])]
    return [each for each in flat if isinstance(each, Tensor)]


def _over_keys(result: Tensor, args: Any, kwargs: Any) -> bool:
    """Whether a softmax looks like one over keys: over the last axis, [B, H, q, k], or [B H, n, n] and a sink."""
    axis = kwargs.get("dim", args[1] if len(args) > 1 else -1)
    if axis not in (-1, result.dim() - 1) or result.dim() < 3 or result.shape[-1] < 2:
        return False
    return result.dim() >= 4 or result.shape[-1] - result.shape[-2] in (0, 1)
