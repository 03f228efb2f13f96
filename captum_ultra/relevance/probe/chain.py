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
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.calls import SOFTMAX, AttentionCall, is_over_keys, with_names
from captum_ultra.relevance.explaining import explaining
from captum_ultra.relevance.one_attention import check_attention, check_count
from captum_ultra.relevance.probe.outside import Named, OutsideAttention, leads_to
from captum_ultra.relevance.probe.products import PRODUCTS, values_of
from captum_ultra.relevance.probe.reach import Rows, gradients_to
from captum_ultra.relevance.pullback import recorded
from captum_ultra.relevance.walk import LastLayerReached, walk

__all__ = ["examine"]

_NORMALISERS = {torch.logsumexp, torch.Tensor.logsumexp}


def examine(
    run: Callable[[], Any], model: nn.Module, blocks: Sequence[nn.Module], *, batch_first: bool = True,
    to_the_end: bool = False, on_start: Callable[[Tensor], None] = lambda stream: None,
) -> tuple[list[OutsideAttention], Tensor]:  # fmt: skip
    """Run a model once and check its chain of blocks.

    Args:
        run: calls the model.
        model: the module whose flags and parameters are guarded; contains the blocks.
        blocks: the residual blocks in the order in which they run.
        batch_first: whether the model carries [B, n, d] (else [n, B, d]).
        to_the_end: run on behind the last block in any case; else only where a module of the kind in which attention
            ran before stands outside the blocks.
        on_start: called with the stream [B, n, d] that enters the first block, with the graph that leads to it.

    Returns:
        Attention outside the blocks that lies between the input and what the model returns, and the latents behind
        the last block.

    Raises:
        UnsupportedModelError: names the block and what it does, and what to do.
    """
    chain = _Chain(model, blocks, to_the_end, on_start)
    with (
        chain, explaining(model), chain.named.watching(),  # modes first: they must see constant parameters
        walk(blocks, batch_first=batch_first, enter=chain.enter, leave=chain.leave) as walked,
        suppress(LastLayerReached),
    ):  # fmt: skip
        run()
    walked.check_ended()
    return chain.outside, chain.latents


class _Chain(TorchFunctionMode):
    def __init__(
        self, model: nn.Module, blocks: Sequence[nn.Module], to_the_end: bool, on_start: Callable[[Tensor], None]
    ) -> None:
        super().__init__()
        self.named = Named(model)
        self.outside: list[OutsideAttention] = []
        self.latents: Tensor
        self._blocks, self._to_the_end, self._on_start = blocks, to_the_end, on_start
        self._leaves: list[Tensor] = []
        self._last: Tensor | None = None  # the leaf for what left the last block that ran
        self._block: int | None = None
        self._paused = False
        self._before: list[tuple[str, Tensor]] = []
        self._blind: list[str] = []  # attention that ran while gradients were switched off
        self._kinds: set[type] = set()
        self._name = ""
        self._seen = 0
        self._near_misses: list[str] = []
        self._attended: list[tuple[Tensor, int]] = []  # what an attention gave, and its axis of queries
        self._softmax: Tensor | None = None  # probabilities that have not met their values

    # The blocks.

    def enter(self, index: int, block: nn.Module, stream: Tensor) -> Tensor:
        self._name = f"block {index} ({type(block).__name__})"
        with self._pause(stream.device):
            if self._last is None:
                self._on_start(stream)
                lying = leads_to(stream, self._before) if stream.requires_grad else self._blind
                self.outside += [OutsideAttention(name, "before") for name in lying]
                self._rows = Rows(stream.shape[1], index)
            else:
                self._check_between(index, stream)
        leaf = stream.detach().requires_grad_()
        self._leaves.append(leaf)
        self._block, self._seen, self._attended, self._softmax, self._near_misses = index, 0, [], None, []
        return leaf.clone()

    def leave(self, index: int, block: nn.Module, stream: Tensor) -> Tensor:
        self._block = None
        with self._pause(stream.device):
            check_count(self._seen, self._near_misses, len(self._rows.asked), self._name)
            if stream.requires_grad and stream.isfinite().all():
                for number in {index, 1} if index in (0, len(self._blocks) - 1) else {index}:
                    self._rows = Rows(stream.shape[1], number)
                    self._check_block(stream)
        self._rows = Rows(stream.shape[1], index + 1)
        left = stream.detach().requires_grad_()
        self._last, self.latents = left, left
        self._leaves.append(left)
        if index + 1 == len(self._blocks) and not self._to_the_end and not self._more_may_follow():
            raise LastLayerReached
        return left.clone()

    def _check_block(self, stream: Tensor) -> None:
        if self._softmax is not None:
            self._refuse(
                "does not multiply the values by the probabilities that its softmax made: they are mixed between "
                "heads, renormalised or replaced on the way, or the product is not one that can be recognised",
                "explain a model in which nothing stands between the softmax and the values",
            )
        sample = 0 if len(stream) > 1 else None
        outputs = [output for output, _ in self._attended]
        found = gradients_to([self._leaves[-1], *outputs], stream, self._rows.cotangent(stream, 1, sample))
        own, of_outputs = found[0], found[1:]
        if own is None or not self._rows.reach_own(own, 1):
            self._refuse(
                "returns nothing of what enters it beside its attention: its residual sum stands outside of it",
                "pass the modules that return the sum as blocks=..., or write the sum into the block",
            )
        assert own is not None
        if self._rows.reach_others(own, 1):
            self._mixes("beside its attention")
        if sample is not None and own[1:].any():
            self._refuse("mixes the samples of a batch", "explain one sample at a time")
        for (_, axis), gradient in zip(self._attended, of_outputs, strict=True):
            if gradient is not None and self._rows.reach_others(gradient, axis):
                self._mixes("behind its attention")

    def _check_between(self, index: int, stream: Tensor) -> None:
        assert self._last is not None
        if stream.shape == self._last.shape and torch.equal(stream, self._last):
            return
        *earlier, own = gradients_to(self._leaves, stream, self._rows.cotangent(stream, 1))
        before = f"what enters {self._name} is not what left block {index - 1}"
        if own is None or not self._rows.reach_own(own, 1):
            self._stop(f"{before}: it is made of something else. Pass the ordered list of residual blocks, one behind "
                       "the other, as blocks=...")  # fmt: skip
        assert own is not None
        if self._rows.reach_others(own, 1):
            self._stop(f"{before}: tokens are mixed in between, by blocks that were passed over or by another kind of "
                       "layer. Pass all residual blocks, in order; where some of them have no attention (hybrids), no "
                       "part of the model can be explained through them")  # fmt: skip
        if any(each is not None and each.any() for each in earlier):
            self._stop(f"{before} alone: a connection passes it by, so that the blocks do not carry the residual "
                       "stream. Pass the modules that return the residual sum as blocks=...")  # fmt: skip

    # The operations.

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            with self:  # its own operations are what is looked at
                return with_names(func, has_torch_function=lambda tensors: False)(*args, **kwargs)
        result = func(*args, **kwargs)
        if func in _NORMALISERS and self._block is not None:
            return result.detach()  # of scores, beside their softmax: a share that goes to a sink
        if func is F.scaled_dot_product_attention:
            return self._fused(result, *args, **kwargs)
        if func in SOFTMAX and is_over_keys(result, args, kwargs):
            return self._probabilities(result, args[0] if args else kwargs["input"])
        if func in PRODUCTS and self._softmax is not None and self._block is not None:
            return self._product(func, args, result)
        return result

    def _fused(self, output: Tensor, query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> Tensor:
        self._kinds.add(type(self.named.module))
        if self._block is None:
            self._saw_outside(output, query, query.shape[-2] == key.shape[-2])
            return output
        self._seen += 1
        call, _ = AttentionCall.of(query, key, value, *rest, **options).by_head(len(self._leaves[-1]))
        check_attention(call, len(self._leaves[-1]), len(self._rows.asked), self._name)
        for name, made in (("queries", query), ("keys", key), ("values", value)):
            self._check_made(name, made, -2)
        return self._cut(output, -2)

    def _probabilities(self, probabilities: Tensor, scores: Tensor) -> Tensor:
        n, m = probabilities.shape[-2:]
        self._kinds.add(type(self.named.module))
        if self._block is None:
            self._saw_outside(probabilities, scores, m in (n, n + 1))
            return probabilities
        tokens = len(self._rows.asked)
        if n != tokens or m not in (tokens, tokens + 1):
            self._near_misses.append(str(list(probabilities.shape)))
            return probabilities
        self._seen += 1
        self._check_scores(scores)
        self._softmax = probabilities.detach()
        return self._softmax.clone().requires_grad_()

    def _product(self, func: Any, args: tuple[Any, ...], result: Tensor) -> Tensor:
        assert self._softmax is not None
        found = values_of(func, args, self._softmax)
        if found is None:
            return result
        values, keys, queries = found
        if values.shape[keys] == len(self._rows.asked):
            self._check_made("values", values, keys)
        self._softmax = None
        return self._cut(result, queries)

    def _cut(self, output: Tensor, axis: int) -> Tensor:
        leaf = output.detach().requires_grad_()
        self._attended.append((leaf, axis))
        return leaf.clone()

    def _check_made(self, name: str, made: Tensor, axis: int) -> None:
        """Raise unless keys, values or queries are made, row by row, of the stream below."""
        found = gradients_to(self._leaves, made, self._rows.cotangent(made, axis))
        reached = [each for each in found if each is not None]
        if not reached and torch.is_grad_enabled():
            self._refuse(
                f"takes its {name} from elsewhere than its own tokens (cross-attention, a memory, learned vectors)",
                "explain a model, or the part of one, whose blocks run self-attention",
            )
        if any(self._rows.reach_others(each, 1) for each in reached):
            self._mixes(f"to make its {name}")

    def _check_scores(self, scores: Tensor) -> None:
        """Raise unless the score of a query and a key depends on these two tokens alone, and on the key's."""
        found = gradients_to(self._leaves, scores, self._rows.of_scores(scores))
        if any(each is not None and self._rows.reach_others(each, 1) for each in found):
            self._mixes("to make its scores")
        query = int(self._rows.asked.nonzero()[-1])
        reached = [each for each in gradients_to(self._leaves, scores, self._rows.of_scores(scores, query))
                   if each is not None]  # fmt: skip
        keys = self._rows.asked.clone()
        keys[query] = False
        if any(each[:, query].any() for each in reached) and not any(each[:, keys].any() for each in reached):
            self._refuse(
                "takes its keys from elsewhere than its own tokens (cross-attention, a memory, learned vectors)",
                "explain a model, or the part of one, whose blocks run self-attention",
            )

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

    def _mixes(self, where: str) -> None:
        self._refuse(
            f"moves information from one token to others {where} (a convolution, pooling, a shift, a state-space or "
            "linear-attention branch), which no attention map shows",
            "explain a model whose tokens meet in softmax attention alone",
        )

    def _refuse(self, what: str, remedy: str) -> None:
        self._stop(f"{self._name} {what}; {remedy}")

    def _stop(self, message: str) -> None:
        raise UnsupportedModelError(message)
