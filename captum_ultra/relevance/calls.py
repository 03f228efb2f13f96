"""Attention as models call it: one description for all who look at it."""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from captum_ultra.relevance.tiles import mask_tile, masked_softmax

__all__ = ["SOFTMAX", "WITHOUT_HEADS", "AttentionCall", "attention_inside", "is_over_keys", "with_names"]

WITHOUT_HEADS = (
    "is covered for queries [batch, heads, tokens, d], and [batch, tokens, d] with one head; of heads and samples on "
    "one axis, explain one sample at a time"
)
SOFTMAX = {F.softmax, torch.softmax, torch.Tensor.softmax, torch.special.softmax}


@dataclass(frozen=True, eq=False)
class AttentionCall:
    """A call of ``scaled_dot_product_attention``.

    Attributes:
        query: [B, H, n, d].
        key: [B, G, m, d]; G divides H (grouped queries).
        value: [B, G, m, d_v].
        mask: boolean (True = attend) or additive, broadcastable to [B, H, n, m], or None.
        dropout: probability that an entry is dropped.
        is_causal: row i attends to tokens 0..i.
        scale: factor of the scores.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    mask: Tensor | None = None
    dropout: float = 0.0
    is_causal: bool = False
    scale: float = 1.0

    @classmethod
    def of(
        cls, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> AttentionCall:  # fmt: skip
        """From the arguments of ``F.scaled_dot_product_attention``."""
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        return cls(query, key, value, attn_mask, dropout_p, is_causal, scale)

    def by_head(self, batch: int) -> tuple[AttentionCall, torch.Size]:
        """The same attention with an axis of heads, and the shape of its output as the model expects it.

        Queries [B, n, d] have one head, those of a single sample [H, n, d] so many. Other calls stay as they are.

        Example:
            >>> x = torch.zeros(2, 5, 4)
            >>> call, shape = AttentionCall(x, x, x).by_head(batch=2)
            >>> call.query.shape, shape
            (torch.Size([2, 1, 5, 4]), torch.Size([2, 5, 4]))
        """
        tensors, mask = (self.query, self.key, self.value), self.mask
        shape = torch.Size((*self.query.shape[:-1], self.value.shape[-1]))
        count = len(self.query)
        if any(each.dim() != 3 or len(each) != count for each in tensors) or batch not in (1, count):
            return self, shape
        query, key, value = (each.unflatten(0, (batch, -1)) for each in tensors)
        if mask is not None and mask.dim() == 3:
            mask = mask.unflatten(0, (batch, -1)) if len(mask) == count else mask[None]
        return replace(self, query=query, key=key, value=value, mask=mask), shape

    def detached(self) -> AttentionCall:
        """The same attention, in no graph."""
        mask = None if self.mask is None else self.mask.detach()
        return replace(self, query=self.query.detach(), key=self.key.detach(), value=self.value.detach(), mask=mask)

    def attend(self, q: Tensor | None = None, k: Tensor | None = None, v: Tensor | None = None) -> Tensor:
        """The output [B, H, n, d_v] by the fused kernel, for the call's own tensors or others in their place."""
        q, k, v = (own if other is None else other for own, other in
                   ((self.query, q), (self.key, k), (self.value, v)))  # fmt: skip
        mask = self.mask if self.mask is None or self.mask.dtype == torch.bool else self.mask.to(q.dtype)
        return F.scaled_dot_product_attention(
            q, k, v, mask, is_causal=self.is_causal, scale=self.scale, enable_gqa=k.shape[1] != q.shape[1]
        )

    def probabilities(self, scores: Tensor, head: slice, rows: slice) -> Tensor:
        """A tile [g, rows, keys] of the B H attention maps, of its unscaled scores, which are left as they are."""
        mask = mask_tile(self.mask, self.query.shape[1], head, rows)
        return masked_softmax(scores * self.scale, mask, rows.start if self.is_causal else None)


def is_over_keys(probabilities: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call of softmax may make attention probabilities: over the last axis of [B, H, n, m] or [B H, n, m]."""
    dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
    return probabilities.dim() >= 3 and dim in (-1, probabilities.dim() - 1)


def attention_inside(mode: TorchFunctionMode, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run ``multi_head_attention_forward`` so that the mode that handles the call sees the operations inside."""
    inside = with_names(F.multi_head_attention_forward, has_torch_function=lambda tensors: False)
    with mode:
        return inside(*args, **kwargs)


def with_names(function: Any, **names: Any) -> Callable[..., Any]:
    """A copy of a Python function that finds other objects under some of its global names."""
    copy = types.FunctionType(
        function.__code__,
        {**function.__globals__, **names},
        function.__name__,
        function.__defaults__,
        function.__closure__,
    )
    copy.__kwdefaults__ = function.__kwdefaults__
    return copy
