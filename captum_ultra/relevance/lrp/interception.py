"""Sees every operation of a running model on what depends on the leaf, and gives it its rule.

Operations before the leaf, on constants and on what cannot be differentiated are left alone. What no
rule covers is refused by name, as is what the mode could not see.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.interception import SOFTMAX, with_names
from captum_ultra.relevance.lrp import rules, table
from captum_ultra.relevance.lrp.attention import AttentionCall, attention_shares, output_shares
from captum_ultra.relevance.lrp.carry import carry
from captum_ultra.relevance.lrp.division import safe_divide
from captum_ultra.relevance.lrp.factors import factor
from captum_ultra.relevance.lrp.operation import Operation, is_signal, tensors_in
from captum_ultra.relevance.lrp.records import MapRelevance

__all__ = ["Refused", "RuleInterceptor"]

PIXELS, FACTOR, MAP = "pixels", "factor", "map"


class Refused(BaseException):
    """Carries a refusal out of a model: Python's operators would swallow it, being a TypeError, and models too."""

    def __init__(self, error: UnsupportedModelError) -> None:
        super().__init__(str(error))
        self.error = error


class RuleInterceptor(TorchFunctionMode):
    """While active, replaces each operation on signals by one whose backward pass takes and gives relevance.

    Args:
        model: the model that runs, for messages.
        batch_first: whether its residual stream is [B, n, d] (else [n, B, d]).

    Attributes:
        block: number of the block that is running, None outside them.
        maps: block -> the relevance of its attention map, filled by the backward pass.
        attentions: how many attention maps each block has used.
    """

    def __init__(self, model: nn.Module, batch_first: bool = True) -> None:
        super().__init__()
        self.block: int | None = None
        self.maps: dict[int, MapRelevance] = {}
        self.attentions: Counter[int] = Counter()
        self._model, self._batch_first = model, batch_first
        self._batch = 0
        self._known: set[Any] = set()
        self._kinds: Any = WeakIdKeyDictionary()  # tensor -> PIXELS, FACTOR or MAP

    def begin(self, leaf: Tensor, batch: int, pixels: bool) -> Tensor:
        """The signal to run the model on: the leaf's values, safe from being changed in place."""
        signal = leaf.clone()
        self._learn(signal)
        if pixels:
            self._kinds[signal] = PIXELS
        self._batch = batch  # from here on operations are followed
        return signal

    def forget(self) -> None:
        """Let go of the graph; what was kept of the maps stays."""
        self._known.clear()
        self._kinds.clear()

    def check_seen(self, output: Tensor) -> None:
        """Raise if an operation that the mode did not see made the output."""
        self._check_known(Operation(torch.Tensor.detach, (output,), {}, self._model))

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self._batch or not torch.is_grad_enabled():
            return func(*args, **kwargs)
        op = Operation(func, args, kwargs, self._model)
        if not op.signals:
            if not any(each.requires_grad for each in tensors_in((args, kwargs))):
                return func(*args, **kwargs)  # among them torch.no_grad, which must keep its effect
            with torch.no_grad():  # what depends on trainable parameters alone is a constant
                return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            with self:  # its own operations are what is followed
                return with_names(func, has_torch_function=lambda tensors: False)(*args, **kwargs)
        try:
            self._check_known(op)
            result = self._in_place(op) if _changes_in_place(op) else self._ruled(op)
        except UnsupportedModelError as error:
            raise Refused(error) from None
        changed = next(tensors_in(args[:1]), None)
        self._learn((result, changed, getattr(changed, "_base", None)))
        return result

    def _in_place(self, op: Operation) -> Tensor:
        """The operation on a copy of what it changes, and its result put in its place."""
        if op.kwargs.get("out") is not None:
            op.refuse("writes its result into another tensor (out=...)")
        target, *rest = op.args
        before = target.clone()
        self._learn(before)
        self._kinds_follow([target], before)
        func, kwargs = op.func, {key: value for key, value in op.kwargs.items() if key != "inplace"}
        if op.name.endswith("_"):
            func = getattr(torch.Tensor, op.name.removesuffix("_"), op.func)
        after = self._ruled(Operation(func, (before, *rest), kwargs, self._model))
        self._learn(after)
        target.copy_(after)
        return target

    def _ruled(self, op: Operation) -> Any:
        name = op.name
        if self._all_are(op, FACTOR) or name in table.FACTORS:
            return self._factor(op)
        if name in table.FOLLOWED:
            return self._followed(op)
        if op.func is F.scaled_dot_product_attention:
            return self._attention(op, *op.args, **op.kwargs)
        if name in table.PRODUCTS:
            return self._product(op)
        if name in table.WEIGHTED:
            return rules.weighted(op, on_pixels=self._all_are(op, PIXELS))
        if name in table.PASSED:
            result = rules.passed(op)
            if op.func in SOFTMAX and self.block is not None:
                self._kinds[result] = MAP
            return result
        if name in table.POOLED:
            return rules.pooled(op)
        if name in table.SUMS or name in table.SCALINGS:
            result = self._constant_or_two(op)
            if self._all_are(op, PIXELS):
                self._kinds[result] = PIXELS
            return result
        return self._other(op)

    def _followed(self, op: Operation) -> Any:
        if op.name == "dropout" and _is_random(*op.args, **op.kwargs):
            op.refuse("is random in evaluation mode: set the dropout to 0")
        result = op.run()
        self._kinds_follow(op.signals, result)
        return result

    def _constant_or_two(self, op: Operation) -> Tensor:
        if op.name in table.SCALINGS:
            return rules.scaled(op, lambda tensor: self._kinds.get(tensor) == FACTOR)
        return rules.summed(op, lambda shape: self._sample_axis(op, shape))

    def _factor(self, op: Operation) -> Any:
        result = factor(op)
        self._kinds[result] = FACTOR
        return result

    def _product(self, op: Operation) -> Tensor:
        """A matrix product; that of an attention map and values keeps the relevance of the map."""
        *_, left, right = rules.factors(op)
        if self._kinds.get(left) != MAP or self.block is None or not is_signal(right):
            return rules.product(op)
        block, batch = self.block, self._batch
        self.attentions[block] += 1

        def keep(relevance: Tensor, a: Tensor, v: Tensor) -> None:
            share = safe_divide(relevance, a @ v)
            by_head = (each.reshape(batch, -1, *each.shape[-2:]) for each in (share, v, a))
            share, v, a = by_head
            self.maps[block] = MapRelevance(share, v, explicit=a)

        return rules.product(op, keep)

    def _attention(
        self, op: Operation, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None,
        dropout_p: float = 0.0, is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
    ) -> Tensor:  # fmt: skip
        if dropout_p > 0:
            op.refuse("is random in evaluation mode: set the dropout to 0")
        if query.dim() != 4 or not (is_signal(key) and is_signal(value)):
            op.refuse("is covered for queries [batch, heads, tokens, d] whose keys and values are signals")
        if is_signal(attn_mask):
            op.refuse("hides a bias that depends on what is explained: load the model with eager attention")
        block = self.block
        if block is not None:
            self.attentions[block] += 1
        call = AttentionCall(
            attn_mask, query.shape[-1] ** -0.5 if scale is None else scale, is_causal, not is_signal(query)
        )

        def shares(relevance: Tensor, *signals: Tensor) -> tuple[Tensor, ...]:
            q, k, v = signals if len(signals) == 3 else (query.to(relevance), *signals)
            share = output_shares(relevance, q, k, v, call)
            if block is not None:
                self.maps[block] = MapRelevance(share, v, q, k, call)
            return attention_shares(share, q, k, v, call)[-len(signals) :]

        return carry(op.with_signals, shares, *op.signals)

    def _other(self, op: Operation) -> Any:
        """What no rule covers may still be harmless: shapes, comparisons, constants."""
        result = op.run()
        if any(is_signal(each) for each in tensors_in(result)):
            op.refuse("is covered by no rule")
        return result

    def _sample_axis(self, op: Operation, shape: torch.Size) -> int | None:
        """The axis of the samples in a sum; None where there is one sample."""
        if self._batch == 1:
            return None
        if not self._batch_first and len(shape) == 3 and shape[1] == self._batch:
            return 1
        if shape[0] != self._batch:
            op.refuse(f"has no axis of the {self._batch} samples in front; explain one sample at a time")
        return 0

    def _all_are(self, op: Operation, kind: str) -> bool:
        return all(self._kinds.get(each) == kind for each in op.signals)

    def _kinds_follow(self, signals: list[Tensor], result: Any) -> None:
        kinds = {self._kinds.get(each) for each in signals}
        if len(kinds) == 1 and None not in kinds:
            for each in tensors_in(result):
                self._kinds[each] = next(iter(kinds))

    def _learn(self, results: Any) -> None:
        """Remember the nodes of the graph that make these results; all of them were just put there."""
        nodes = [each.grad_fn for each in tensors_in(results) if each.grad_fn is not None]
        while nodes:
            node = nodes.pop()
            if node not in self._known:
                self._known.add(node)
                nodes += [below for below, _ in node.next_functions if below is not None]

    def _check_known(self, op: Operation) -> None:
        for signal in op.signals:
            if signal.grad_fn is not None and signal.grad_fn not in self._known:
                op.refuse(
                    f"was given the result of {signal.grad_fn.name()}, an operation that torch does not announce "
                    "(a custom autograd function, a compiled or scripted part, activation checkpointing)"
                )


def _changes_in_place(op: Operation) -> bool:
    if op.kwargs.get("inplace") or op.kwargs.get("out") is not None:
        return True
    return op.name.endswith("_") and not op.name.endswith("__") and op.name not in table.FOLLOWED


def _is_random(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> bool:
    return training and p > 0
