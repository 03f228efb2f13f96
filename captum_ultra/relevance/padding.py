"""Which tokens of a batch are padding: told by the attention of the first block, whatever a mask means by its ones.

A token is padding if no other attends to it, and causality is not why: it does not attend to itself either (its column
is masked), or it stands before the text and looks at everything (softmax over a row that is masked altogether).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from captum_ultra.relevance.calls import SOFTMAX, attention_inside, is_over_keys
from captum_ultra.relevance.explaining import explaining
from captum_ultra.relevance.walk import LastLayerReached, walk

__all__ = ["padding_in", "padding_of_run"]

# Scores so far below the largest of their row have no probability left in any precision.
_NEVER = -100.0
_NONE = 1e-30


def padding_of_run(
    run: Callable[[], Any], model: nn.Module, blocks: Sequence[nn.Module], *, batch_first: bool = True,
    stop_early: bool = True,
) -> Tensor:  # fmt: skip
    """True for the tokens [B, n] that are padding, found by a run up to the end of the first block.

    Args:
        run: calls the model.
        model: the module whose flags are guarded; contains the blocks.
        blocks: the residual blocks.
        batch_first: whether the model carries [B, n, d] (else [n, B, d]).
        stop_early: end the run after the first block.
    """
    watch = _Watch()

    def enter(index: int, block: nn.Module, stream: Tensor) -> None:
        if index == 0:
            watch.shape = (stream.shape[0], stream.shape[1])

    def leave(index: int, block: nn.Module, stream: Tensor) -> None:
        watch.pairs = watch.pairs if watch.pairs is not None else torch.ones(1, 1, 1, dtype=torch.bool)

    last = 1 if stop_early else None
    with (
        watch, explaining(model, gradients=False), suppress(LastLayerReached),
        walk(blocks, batch_first=batch_first, enter=enter, leave=leave, last=last),
    ):  # fmt: skip
        run()
    batch, tokens = watch.shape
    if watch.pairs is None or watch.pairs.all():
        return torch.zeros(batch, tokens, dtype=torch.bool)
    return padding_in(watch.pairs.expand(batch, tokens, tokens))


def padding_in(attended: Tensor) -> Tensor:
    """True for the tokens [B, n] that are padding, where ``attended`` [B, n, n] says who attends to whom.

    Example:
        >>> causal = torch.ones(4, 4, dtype=torch.bool).tril()
        >>> seen = torch.tensor([True, True, True, False])     # padded on the right
        >>> padding_in((causal & seen)[None])
        tensor([[False, False, False,  True]])
        >>> padding_in(causal[None])
        tensor([[False, False, False, False]])
    """
    hidden = ~attended.diagonal(dim1=1, dim2=2)
    for _ in range(attended.shape[1]):
        reached = hidden & (attended & ~hidden[:, :, None]).any(1)
        if not reached.any():
            break
        hidden = hidden & ~reached
    # Before the text: rows that were masked altogether and look everywhere, at which nothing behind them looks.
    everywhere = attended.all(2).cumprod(1).bool()
    later = (attended & ~everywhere[:, :, None]).any(1)
    before = everywhere & ~later
    before = before & ~(everywhere & later).any(1, keepdim=True)
    found = hidden | before
    return found & ~found.all(1, keepdim=True)


class _Watch(TorchFunctionMode):
    """Notes which keys the first attention over all tokens lets each query see: [B or 1, n or 1, n]."""

    def __init__(self) -> None:
        super().__init__()
        self.shape: tuple[int, int] = (0, 0)
        self.pairs: Tensor | None = None

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not self.shape[1] or self.pairs is not None:
            return func(*args, **kwargs)
        if func is F.multi_head_attention_forward:
            return attention_inside(self, args, kwargs)
        if func is F.scaled_dot_product_attention:
            self._fused(*args, **kwargs)
        result = func(*args, **kwargs)
        if func in SOFTMAX and is_over_keys(result, args, kwargs):
            self._note(result > _NONE)
        return result

    def _fused(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *rest: Any, **options: Any
    ) -> None:
        if attn_mask is None:
            self.pairs = torch.ones(1, 1, 1, dtype=torch.bool)
            return
        mask = attn_mask
        if mask.dtype != torch.bool:
            mask = mask.float()
            mask = (mask - mask.amax(-1, keepdim=True)).nan_to_num(0.0) > _NEVER
        self._note(mask)

    def _note(self, seen: Tensor) -> None:
        """Of all heads: [..., n or 1, n] of [B H] or [B, H] maps."""
        batch, tokens = self.shape
        if seen.shape[-2] not in (1, tokens) or seen.shape[-1] not in (tokens, tokens + 1):
            return
        seen = seen[..., :tokens]
        samples = batch if seen.dim() > 2 and seen.shape[0] % batch == 0 else 1
        self.pairs = seen.reshape(samples, -1, *seen.shape[-2:]).any(1).cpu()
