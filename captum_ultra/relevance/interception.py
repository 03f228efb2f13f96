"""Finds the attention of the block that is running, in whichever way the model computes it.

Two forms exist in practice. ``scaled_dot_product_attention`` is seen by a torch function mode
wherever it is called from; inside ``multi_head_attention_forward`` the mode is off, so a copy of
that function runs which looks the primitives up here. Models that compute their own probabilities
call a softmax over the keys. Everything outside the blocks (pooling heads, other towers) and
everything that cannot be an attention over all tokens is left alone or refused by name.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.attention import AttentionOptions, relevance_attention
from captum_ultra.relevance.course import Course
from captum_ultra.relevance.ledger import Ledger
from captum_ultra.relevance.passage import Passage
from captum_ultra.relevance.probabilities import relevance_probabilities

__all__ = ["SOFTMAX", "AttentionInterceptor", "with_names"]

SOFTMAX = {F.softmax, torch.softmax, torch.Tensor.softmax, torch.special.softmax}


class AttentionInterceptor(TorchFunctionMode):
    """While active, replaces the one attention of the running block by its relevance-carrying form."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self._rule, self._observer = course.rule, course.observer
        self._passing: dict[str, Any] = {"residual": not course.separate, "cells": course.cells}
        self._relevance: Tensor
        self._ledger: Ledger
        self._batch = self._tokens = 0
        self._block: int | None = None
        self._name = ""
        self._seen = 0
        self._near_misses: list[str] = []

    def begin(self, source: Tensor, ledger: Ledger) -> None:
        self._relevance, self._ledger = source, ledger
        self._batch, self._tokens = source.shape

    def enter(self, index: int, block: nn.Module, stream: Tensor) -> None:
        if self._block is not None:
            raise UnsupportedModelError(
                f"block {index} ({type(block).__name__}) runs inside block {self._block}; nested blocks are no "
                "residual stream: pass only the outer or only the inner modules as blocks=..."
            )
        self._name, self._seen, self._near_misses = type(block).__name__, 0, []
        if self._observer is not None:
            self._relevance = self._observer.enter(index, self._name, stream, self._relevance)
        self._block = index

    def leave(self, stream: Tensor) -> Tensor:
        """The relevance vector after the block; the block must have run exactly one attention."""
        if self._seen != 1:
            raise UnsupportedModelError(self._count_message())
        self._block = None
        if self._observer is not None:
            self._relevance = self._observer.leave(stream, self._relevance)
        return self._relevance

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if self._block is not None:
            if func is F.scaled_dot_product_attention:
                return self._attention(*args, **kwargs)
            if func in SOFTMAX:
                return self._softmax(func, *args, **kwargs)
            if func is F.multi_head_attention_forward:
                return self._multi_head_attention(*args, **kwargs)
            if self._observer is not None:
                return self._observed(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _attention(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
        is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        self._check_queries_and_keys(query, key)
        if dropout_p > 0:
            raise UnsupportedModelError(
                f"block {self._block} ({self._name}) applies attention dropout (p={dropout_p}) in evaluation "
                "mode; explanations of random attention are not reproducible: set the dropout to 0"
            )
        if attn_mask is not None and attn_mask.requires_grad:
            raise UnsupportedModelError(
                f"block {self._block} ({self._name}) computes its attention bias from the latents and passes it to "
                "a fused kernel, which hides the bias from the explanation: load the model with eager attention"
            )
        scale = query.shape[-1] ** -0.5 if scale is None else scale
        options = AttentionOptions(self._rule, self._ledger, self._index, scale, is_causal, **self._passing)
        output, self._relevance = relevance_attention(query, key, value, self._carried(query), attn_mask, options)
        self._seen += 1
        if self._observer is not None:
            self._observer.attended(value, output, options)
        return output

    def _softmax(self, func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        probabilities = func(*args, **kwargs)
        dim = kwargs.get("dim", args[1] if len(args) > 1 else None)
        if dim not in (-1, probabilities.dim() - 1) or probabilities.dim() < 3:
            return probabilities
        by_head = self._by_head(probabilities)
        if by_head is None:
            self._near_misses.append(str(list(probabilities.shape)))
            return probabilities
        if self._observer is not None:
            raise UnsupportedModelError(
                f"block {self._block} ({self._name}) computes its own softmax, which hides its values from this "
                'method: load the model with fused attention (attn_implementation="sdpa", fused_attn=True)'
            )
        options = Passage(self._rule, self._ledger, self._index, **self._passing)
        followed, self._relevance = relevance_probabilities(by_head, self._carried(by_head), options)
        self._seen += 1
        return followed.view_as(probabilities)

    def _multi_head_attention(self, *args: Any, **kwargs: Any) -> Any:
        names = {"scaled_dot_product_attention": self._attention, "softmax": partial(self._softmax, F.softmax)}
        if self._observer is not None:
            names["linear"] = partial(self._observed, F.linear)
        return with_names(F.multi_head_attention_forward, **names)(*args, **kwargs)

    def _observed(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = func(*args, **kwargs)
        assert self._observer is not None
        self._observer.called(func, args, kwargs, result)
        return result

    @property
    def _index(self) -> int:
        assert self._block is not None
        return self._block

    def _carried(self, near: Tensor) -> Tensor:
        """The relevance vector on the device of the attention: blocks need not share one."""
        return self._relevance.to(near.device)

    def _by_head(self, probabilities: Tensor) -> Tensor | None:
        """Probabilities as [B, H, n, n or n + 1] if they are an attention over all tokens, else None."""
        rows, columns = probabilities.shape[-2:]
        if rows != self._tokens or columns not in (self._tokens, self._tokens + 1):
            return None
        if probabilities.dim() == 3 and probabilities.shape[0] % self._batch == 0:
            return probabilities.view(self._batch, -1, rows, columns)
        if probabilities.dim() == 4 and probabilities.shape[0] == self._batch:
            return probabilities
        return None

    def _check_queries_and_keys(self, query: Tensor, key: Tensor) -> None:
        expected = (self._batch, self._tokens)
        seen = (query.shape[0], query.shape[-2])
        where = f"block {self._block} ({self._name})"
        if query.dim() != 4 or seen != expected:
            raise UnsupportedModelError(
                f"{where} attends within queries of shape {list(query.shape)} where [{self._batch}, heads, "
                f"{self._tokens}, d] is expected; windowed, pooled and channel attention mix other things than "
                "all tokens: explain a model with global attention, or pass other modules as blocks=..."
            )
        if key.shape[-2] != self._tokens:
            raise UnsupportedModelError(
                f"{where} attends from {self._tokens} tokens to {key.shape[-2]} keys; cross-attention, key-value "
                "caches and added key tokens bring in information from elsewhere: explain the encoder or a decoder "
                "without them"
            )

    def _count_message(self) -> str:
        where = f"block {self._block} ({self._name})"
        if self._seen > 1:
            return (
                f"{where} runs {self._seen} attentions where one is expected (cross-attention, "
                "parallel branches, or several layers in one block): pass the modules that run one "
                "self-attention each as blocks=..."
            )
        near = f"; softmax over {', '.join(self._near_misses)} is not over all tokens" if self._near_misses else ""
        return (
            f"no attention over all {self._tokens} tokens was seen in {where}{near}. It may be "
            "windowed, pooled, linear, over channels, or hidden in a fused kernel (flash-attention, flex-attention): "
            'load the model with attn_implementation="sdpa" or "eager", or pass other modules as blocks=...'
        )


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
