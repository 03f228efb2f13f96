"""Finds the attention of the block that is running, in whichever way the model computes it.

Two forms exist in practice. ``scaled_dot_product_attention`` is seen by a torch function mode
wherever it is called from; inside ``multi_head_attention_forward`` the mode is off, so a copy of
that function runs which looks the primitives up here. Models that compute their own probabilities
call a softmax over the keys. Everything outside the blocks (pooling heads, other towers) and
everything that cannot be an attention over all tokens is left alone or refused by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_ultra.relevance import lean
from captum_ultra.relevance.attention import FusedAttention
from captum_ultra.relevance.calls import SOFTMAX, AttentionCall, attention_inside, is_over_keys
from captum_ultra.relevance.one_attention import check_attention, check_count
from captum_ultra.relevance.probabilities import ExplicitAttention
from captum_ultra.relevance.projections import Projections
from captum_ultra.relevance.trace import Trace

__all__ = ["AttentionInterceptor", "BlockObserver"]


class BlockObserver(Protocol):
    """Sees what the followed blocks do beside their attention."""

    def enter(self, block: int, name: str, stream: Tensor) -> None:
        """Before a block runs on its stream."""

    def attended(self, call: AttentionCall, output: Tensor) -> None:
        """After an attention with the output [B, H, n, d_v]."""

    def hidden(self) -> None:
        """After an attention whose values cannot be seen: the model computes its own softmax."""

    def called(self, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """After any other torch function inside the block."""

    def leave(self, stream: Tensor) -> None:
        """After the block."""


class AttentionInterceptor(TorchFunctionMode):
    """While active, cuts the run at the one attention of every block, and where the stream leaves it.

    Args:
        observer: sees the other operations of the blocks.
    """

    def __init__(self, observer: BlockObserver | None = None) -> None:
        super().__init__()
        self.observer = observer
        self._trace: Trace
        self._batch = self._tokens = 0
        self._block: int | None = None
        self._name = ""
        self._seen = 0
        self._near_misses: list[str] = []
        self._projections = Projections()

    def begin(self, trace: Trace, stream: Tensor) -> Tensor:
        """Before the first block that is followed: the stream [B, n, d] that it gets."""
        self._trace, (self._batch, self._tokens) = trace, stream.shape[:2]
        return trace.cut(trace.first, stream.detach())

    def enter(self, index: int, block: nn.Module, stream: Tensor) -> None:
        """Before a block."""
        self._name, self._seen, self._near_misses, self._block = type(block).__name__, 0, [], index
        if self.observer is not None:
            self.observer.enter(index, self._name, stream)

    def leave(self, trace: Trace, index: int, block: nn.Module, stream: Tensor, wanted: bool) -> Tensor:
        """After a block, which must have run exactly one attention."""
        check_count(self._seen, self._near_misses, self._tokens, self._where)
        self._block = None
        trace.widest = max(trace.widest, self._projections.widest)
        self._projections.forget()
        if self.observer is not None:
            self.observer.leave(stream)
        return trace.cut(index + 1, stream, keep=wanted)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._block is not None:
            if func is F.scaled_dot_product_attention:
                return self._attention(*args, **kwargs)
            if func in SOFTMAX:
                return self._softmax(func, *args, **kwargs)
            if func is F.multi_head_attention_forward:
                return attention_inside(self, args, kwargs)
            return self._observed(func, *args, **kwargs)
        return func(*args, **kwargs)

    def _attention(self, *args: Any, **kwargs: Any) -> Tensor:
        call, shape = AttentionCall.of(*args, **kwargs).by_head(self._batch)
        check_attention(call, self._batch, self._tokens, self._where)
        crossing = FusedAttention(call, self._projections)
        output = self._trace.cuts.fresh_attention(crossing.attend(), crossing, self._block)
        self._seen += 1
        if self.observer is not None:
            self.observer.attended(call, output)
        return output if output.shape == shape else output.reshape(shape)

    def _softmax(self, func: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
        probabilities: Tensor = func(*args, **kwargs)
        if not is_over_keys(probabilities, args, kwargs):
            return probabilities
        by_head = self._by_head(probabilities)
        if by_head is None:
            self._near_misses.append(str(list(probabilities.shape)))
            return probabilities
        if self.observer is not None:
            self.observer.hidden()
        assert self._block is not None
        crossing = ExplicitAttention(by_head, self._trace.ledger, self._block)
        followed = self._trace.cuts.attention(by_head, crossing, self._block)
        self._seen += 1
        return followed.view_as(probabilities)

    def _observed(self, func: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = lean.called(func, args, kwargs)
        self._projections.called(func, args, kwargs, result)
        if self.observer is not None:
            self.observer.called(func, args, kwargs, result)
        return result

    @property
    def _where(self) -> str:
        return f"block {self._block} ({self._name})"

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
