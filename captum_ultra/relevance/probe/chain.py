"""One run of a model that finds out whether its blocks form the chain that explanations follow.

Every block is cut out of the run: a leaf stands for what enters it, another for what its attention gives, a third for
what leaves it. What then depends on which token of a leaf is told by gradients, whatever the modules are called:

- beside its attention, a block must not move anything from one token to another;
- queries, keys and values, or the scores, must be made token by token of what enters the block (or entered an earlier
  one), and probabilities must reach the values as they left the softmax;
- what leaves a block must be all that the next one is made of, token by token.

The run goes on behind the blocks where attention may follow there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.calls import SOFTMAX, AttentionCall, attention_inside, is_over_keys
from captum_ultra.relevance.explaining import explaining
from captum_ultra.relevance.one_attention import check_attention, check_count
from captum_ultra.relevance.probe.meeting import Meeting
from captum_ultra.relevance.probe.outside import Named, OutsideAttention, leads_to
from captum_ultra.relevance.probe.products import PRODUCTS, values_of
from captum_ultra.relevance.pullback import recorded
from captum_ultra.relevance.refused import Refused
from captum_ultra.relevance.walk import LastLayerReached, walk

__all__ = ["Examined", "examine"]

_NORMALISERS = {torch.logsumexp, torch.Tensor.logsumexp}


@dataclass(frozen=True, eq=False)
class Examined:
    """What a run has shown.

    Attributes:
        outside: attention outside the blocks that lies between the input and what the model returns.
        latents: behind the last block [B, n, d].
        finite: whether all latents were finite, without which nothing was found out.
    """

    outside: list[OutsideAttention]
    latents: Tensor
    finite: bool


def examine(
    run: Callable[[], Any], model: nn.Module, blocks: Sequence[nn.Module], *, batch_first: bool = True,
    to_the_end: bool = False, made: Sequence[Tensor] = (), on_start: Callable[[Tensor], None] = lambda stream: None,
) -> Examined:  # fmt: skip
    """Run a model once and check its chain of blocks.

    Args:
        run: calls the model.
        model: the module whose flags and parameters are guarded; contains the blocks.
        blocks: the residual blocks in the order in which they run.
        batch_first: whether the model carries [B, n, d] (else [n, B, d]).
        to_the_end: run on behind the last block in any case; else only where a module of the kind in which attention
            ran before stands outside the blocks.
        made: leaves [B, n, ...] of the run that are made of the input, token by token; may grow while the model runs.
        on_start: called with the stream [B, n, d] that enters the first block, with the graph that leads to it.

    Raises:
        UnsupportedModelError: names the block and what it does, and what to do.
    """
    chain = _Chain(model, blocks, to_the_end, made, on_start)
    try:
        with (
            chain, explaining(model), chain.named.watching(),  # modes first: they must see constant parameters
            walk(blocks, batch_first=batch_first, enter=chain.enter, leave=chain.leave) as walked,
            suppress(LastLayerReached),
        ):  # fmt: skip
            run()
    except Refused as refused:
        raise refused.error from None
    walked.check_ended()
    return Examined(chain.outside, chain.latents, chain.finite)


class _Chain(TorchFunctionMode):
    def __init__(
        self, model: nn.Module, blocks: Sequence[nn.Module], to_the_end: bool, made: Sequence[Tensor],
        on_start: Callable[[Tensor], None],
    ) -> None:  # fmt: skip
        super().__init__()
        self.named = Named(model)
        self.outside: list[OutsideAttention] = []
        self.latents: Tensor
        self.finite = True
        self._blocks, self._to_the_end, self._made, self._on_start = blocks, to_the_end, made, on_start
        self._leaves: list[Tensor] = []
        self._last: Tensor | None = None  # the leaf for what left the last block that ran
        self._running: Meeting | None = None
        self._paused = False
        self._before: list[tuple[str, Tensor]] = []
        self._blind: list[str] = []  # attention that ran while gradients were switched off
        self._kinds: set[type] = set()
        self._seen = 0
        self._near_misses: list[str] = []

    # The blocks.

    def enter(self, index: int, block: nn.Module, stream: Tensor) -> Tensor:
        leaf = stream.detach().requires_grad_()
        made = [each for each in self._made if each.shape[:2] == stream.shape[:2] and each.requires_grad]
        meeting = Meeting(f"block {index} ({type(block).__name__})", index, leaf, [*self._leaves, *made])
        with self._pause(stream.device):
            if self._last is None:
                self._on_start(stream)
                lying = leads_to(stream, self._before) if stream.requires_grad else self._blind
                self.outside += [OutsideAttention(name, "before") for name in lying]
                self._leaves += [stream] if stream.requires_grad else []  # what the model itself goes on holding
            elif self.finite:
                meeting.check_entry(stream, self._last)
        self._leaves.append(leaf)
        self._running, self._seen, self._near_misses = meeting, 0, []
        return leaf.clone()

    def leave(self, index: int, block: nn.Module, stream: Tensor) -> Tensor:
        meeting, self._running = self._running, None
        assert meeting is not None
        with self._pause(stream.device):
            check_count(self._seen, self._near_misses, meeting.tokens, meeting.name)
            self.finite &= bool(stream.isfinite().all())
            if stream.requires_grad and self.finite:
                meeting.check(stream)
        left = stream.detach().requires_grad_()
        self._last, self.latents = left, left
        self._leaves.append(left)
        if index + 1 == len(self._blocks) and not self._to_the_end and not self._more_may_follow():
            raise LastLayerReached
        return left.clone()

    # The operations.

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return attention_inside(self, args, kwargs)
        result = func(*args, **kwargs)
        try:
            return self._looked_at(func, args, kwargs, result)
        except UnsupportedModelError as error:
            raise Refused(error) from None

    def _looked_at(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> Any:
        if func is F.scaled_dot_product_attention:
            return self._fused(result, *args, **kwargs)
        if func in SOFTMAX and is_over_keys(result, args, kwargs):
            return self._probabilities(result, args[0] if args else kwargs["input"])
        if self._running is None:
            return result
        if func in _NORMALISERS:
            return result.detach()  # of scores, beside their softmax: a share that goes to a sink
        if func in PRODUCTS and self._running.probabilities is not None:
            found = values_of(func, args, self._running.probabilities)
            return result if found is None else self._running.product(*found, result)
        return result

    def _fused(self, output: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> Tensor:
        self._kinds.add(type(self.named.module))
        if self._running is None:
            self._saw_outside(output, query, query.shape[-2] == key.shape[-2])
            return output
        self._seen += 1
        call, _ = AttentionCall.of(query, key, value, *rest, **options).by_head(self._running.batch)
        check_attention(call, self._running.batch, self._running.tokens, self._running.name)
        for name, made in (("queries", query), ("keys", key), ("values", value)):
            self._running.must_be_own(name, made, -2)
        return self._running.cut(output, -2)

    def _probabilities(self, probabilities: Tensor, scores: Tensor) -> Tensor:
        n, m = probabilities.shape[-2:]
        self._kinds.add(type(self.named.module))
        if self._running is None:
            self._saw_outside(probabilities, scores, m in (n, n + 1))
            return probabilities
        tokens = self._running.tokens
        if n != tokens or m not in (tokens, tokens + 1):
            self._near_misses.append(str(list(probabilities.shape)))
            return probabilities
        self._seen += 1
        return self._running.softmax(probabilities, scores)

    def _saw_outside(self, output: Tensor, query: Tensor, square: bool) -> None:
        """Attention of several queries, before the blocks; behind them, of tokens among themselves: no pooling."""
        if query.shape[-2] == 1:
            return
        if self._last is None:
            self._before.append((self.named.name, output))
            self._blind += [] if torch.is_grad_enabled() else [self.named.name]
        elif square:
            with self._pause(output.device):
                if leads_to(query, [("", self._last)]):
                    self.outside.append(OutsideAttention(self.named.name, "behind"))

    def _more_may_follow(self) -> bool:
        inside = {module for block in self._blocks for module in block.modules()}
        return any(type(module) in self._kinds for module in self.named.names if module not in inside)

    @contextmanager
    def _pause(self, device: torch.device) -> Iterator[None]:
        """Within: the operations of the checks are not looked at."""
        self._paused = True
        try:
            with recorded(device):
                yield
        finally:
            self._paused = False
