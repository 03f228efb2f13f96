"""Layer-wise relevance propagation: the cotangents of the graph are relevances, shared out operation by operation."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.calls import SOFTMAX, WITHOUT_HEADS, AttentionCall
from captum_ultra.relevance.lrp import shares, table
from captum_ultra.relevance.lrp.attention import attention_shares, output_shares
from captum_ultra.relevance.lrp.carry import carry
from captum_ultra.relevance.lrp.division import safe_divide
from captum_ultra.relevance.lrp.factors import guarded
from captum_ultra.relevance.lrp.interception import OperationGraph
from captum_ultra.relevance.lrp.operation import Operation, is_signal
from captum_ultra.relevance.lrp.records import MapRelevance
from captum_ultra.relevance.trace import Trace

__all__ = ["Propagation"]

PIXELS, FACTOR, MAP = "pixels", "factor", "map"


class Propagation(OperationGraph):
    """Rules by which an operation's relevance is shared out among its signals.

    Args:
        model: the model that runs, for messages.
        published: the rules of the published baselines, in place of those that conserve relevance: the positive and
            the negative products of a linear layer take all relevance each, and sums are not renormalised.
        batch_first: whether its residual stream is [B, n, d] (else [n, B, d]).

    Attributes:
        maps: block -> the relevance of its attention map, filled by the backward pass.
        leaf: the input, where relevance goes down to it.
    """

    def __init__(self, model: nn.Module, published: bool = False, batch_first: bool = True) -> None:
        super().__init__(model)
        self.maps: dict[int, MapRelevance] = {}
        self.leaf: Tensor | None = None
        self._published, self._batch_first = published, batch_first
        self._attentions: Counter[int] = Counter()
        self._precision = ExitStack()

    def __enter__(self) -> Propagation:
        super().__enter__()
        if self._depth == 1:  # autocast would bring half precision back, in which shares are worth nothing
            device = next((each.device.type for each in self.model.parameters()), "cpu")
            self._precision.enter_context(torch.autocast(device, enabled=False))
        return self

    def __exit__(self, *error: Any) -> None:
        if self._depth == 1:
            self._precision.close()
        super().__exit__(*error)

    def begin(self, trace: Trace, stream: Tensor) -> Tensor:
        check_precision(stream)
        if self.leaf is None:
            return super().begin(trace, stream)
        self.check_seen(stream)
        trace.keep(trace.first, stream)
        return stream.clone()

    def begin_with_pixels(self, leaf: Tensor) -> Tensor:
        """Make the input [B, ...] the leaf; returns the signal to run the model on."""
        check_precision(leaf)
        self.leaf, signal = leaf, leaf.clone()
        self.learn(signal)
        if leaf.dim() == 4:
            self.kinds[signal] = PIXELS
        self.batch = len(leaf)
        return signal

    def leave(self, trace: Trace, index: int, block: nn.Module, stream: Tensor, wanted: bool) -> Tensor | None:
        seen = self._attentions[index]
        if seen != 1:
            raise UnsupportedModelError(
                f"block {index} ({type(block).__name__}) runs {seen} attentions where one self-attention is "
                "expected: pass the modules that run one each as blocks=..."
            )
        return super().leave(trace, index, block, stream, wanted)

    def ruled(self, op: Operation) -> Any:
        name = op.name
        if self.all_are(op, FACTOR) or name in table.FACTORS:
            result = guarded(op, "is covered as a gate or a norm that signals are multiplied or divided by")
            self.kinds[result] = FACTOR
            return result
        if name in table.FOLLOWED:
            return self.followed(op)
        if op.func is F.scaled_dot_product_attention:
            return self._attention(op)
        if name in table.PRODUCTS:
            return self._product(op)
        if name in table.WEIGHTED:
            return shares.weighted(op, self.all_are(op, PIXELS), self._published)
        if name in table.PASSED:
            result = shares.passed(op)
            if op.func in SOFTMAX and self.block is not None:
                self.kinds[result] = MAP
            return result
        if name in table.POOLED:
            return shares.pooled(op)
        if name in table.SUMS or name in table.SCALINGS:
            result = self._constant_or_two(op)
            if self.all_are(op, PIXELS):
                self.kinds[result] = PIXELS
            return result
        # It may be harmless (shapes, comparisons, the square below a norm); where relevance comes by it is refused.
        return guarded(op, "is covered by no rule")

    def _constant_or_two(self, op: Operation) -> Tensor:
        if op.name in table.SCALINGS:
            return shares.scaled(op, lambda tensor: self.kinds.get(tensor) == FACTOR)
        if self._published and not self.all_are(op, PIXELS):
            return shares.summed_plainly(op)
        return shares.summed(op, lambda shape: self._sample_axis(op, shape))

    def _product(self, op: Operation) -> Tensor:
        """A matrix product; that of an attention map and values keeps the relevance of the map."""
        *_, left, right = shares.factors(op)
        if self.kinds.get(left) != MAP or self.block is None or not is_signal(right):
            return shares.product(op, self._published)
        block, batch = self.block, self.batch
        self._attentions[block] += 1

        def keep(relevance: Tensor, a: Tensor, v: Tensor) -> None:
            share = safe_divide(relevance, a @ v)
            share, v, a = (each.reshape(batch, -1, *each.shape[-2:]) for each in (share, v, a))
            self.maps[block] = MapRelevance(share, v, explicit=a)

        return shares.product(op, self._published, keep)

    def _attention(self, op: Operation) -> Tensor:
        call, shape = AttentionCall.of(*op.args, **op.kwargs).by_head(self.batch)
        if call.dropout > 0:
            op.refuse("is random in evaluation mode: set the dropout to 0")
        if call.query.dim() != 4:
            op.refuse(WITHOUT_HEADS)
        if not (is_signal(call.key) and is_signal(call.value)):
            op.refuse("is covered where its keys and values are signals")
        if call.mask is not None and is_signal(call.mask):
            op.refuse("hides a bias that depends on what is explained: load the model with eager attention")
        block, learned_query = self.block, not is_signal(call.query)
        if block is not None:
            self._attentions[block] += 1
        constants = (call.mask, call.dropout, call.is_causal, call.scale)
        query = call.query.detach() if learned_query else None

        def found(relevance: Tensor, *signals: Tensor) -> tuple[Tensor, ...]:
            q, k, v = signals if query is None else (query.to(relevance), *signals)
            again = AttentionCall(q, k, v, *constants)
            share = output_shares(relevance, again)
            if block is not None:
                self.maps[block] = MapRelevance(share, v, again)
            return attention_shares(share, again, learned_query)[-len(signals) :]

        def attend(*signals: Tensor) -> Tensor:
            return call.attend(*(signals if query is None else (query, *signals)))

        # A tensor may be queries, keys and values at once: each of them has its own relevance.
        of = (call.query, call.key, call.value)[-2 if learned_query else -3 :]
        return carry(attend, found, *(each.view_as(each) for each in of)).reshape(shape)

    def _sample_axis(self, op: Operation, shape: torch.Size) -> int | None:
        """The axis of the samples in a sum; None where there is one sample."""
        if self.batch == 1:
            return None
        if not self._batch_first and len(shape) == 3 and shape[1] == self.batch:
            return 1
        if shape[0] != self.batch:
            op.refuse(f"has no axis of the {self.batch} samples in front; explain one sample at a time")
        return 0


def check_precision(leaf: Tensor) -> None:
    """Raise for half precision.

    Raises:
        ValueError: says why, and what to do.
    """
    if leaf.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"layer-wise relevance propagation in {leaf.dtype}: relevance is divided by sums that are nearly zero, "
            "which half precision turns into other maps; explain the model in float32: model.float(), inputs.float()"
        )
