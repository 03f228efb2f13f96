"""ULTra written out on stored maps: one target at a time, R <- R + mean_h R relu(dA A)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tools.families.maps import Attention, StoredMaps

LATENT = "sum"
"""The score that is explained: of a normalised latent the sum."""


@dataclass
class Recording:
    """What a run left.

    Attributes:
        latents: streams [B, n, d] after 0, 1, ... blocks.
        calls: attentions, in the order in which they ran.
        marks: how many of them had run at each of the latents.
        axis: of the tokens, in the model's own stream.
    """

    latents: list[Tensor] = field(default_factory=list)
    calls: list[Attention] = field(default_factory=list)
    marks: list[int] = field(default_factory=list)
    axis: int = 1

    def chain(self, layer: int) -> list[Attention]:
        """The attentions between the first latents and those of a layer."""
        return self.calls[self.marks[0] : self.marks[layer]]


class Strange(Exception):
    """What ran cannot be explained by rows over these tokens."""


def record(run: Callable[[], Any], model: nn.Module, blocks: Sequence[nn.Module], tokens: int) -> Recording:
    """One run with its graph; the stream's axis of so many tokens is the second, or else the first."""
    recording = Recording()

    def keep(stream: Tensor) -> None:
        stream = stream.clone()  # which later blocks may change in place
        recording.axis = 1 if stream.shape[1] == tokens else 0
        recording.latents.append(stream if recording.axis else stream.transpose(0, 1))
        recording.marks.append(len(maps.calls))

    def enter(module: nn.Module, args: Any, kwargs: Any) -> None:
        if not recording.latents:
            keep(first_tensor(args, kwargs))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        keep(output[0] if isinstance(output, tuple | list) else output)

    with StoredMaps() as maps, hooked(blocks, enter, leave), differentiable(model):
        run()
    recording.calls = maps.calls
    return recording


def explicit_row(recording: Recording, token: int, layer: int) -> Tensor:
    """Relevance [B, n] of the tokens that enter the first block, the target's own entry zero.

    Raises:
        Strange: if an attention on the way is over other tokens.
    """
    latents = recording.latents[layer]
    batch, n = recording.latents[0].shape[:2]
    row = torch.zeros(batch, n, dtype=torch.float64)
    row[:, token] = 1
    calls = recording.chain(layer)
    target = latents[:, token].float() if latents.dtype == torch.bfloat16 else latents[:, token]
    score = (target / target.norm(dim=-1, keepdim=True).detach()).sum()
    maps = [each.probabilities for each in calls]
    gradients = torch.autograd.grad(score, maps, retain_graph=True, allow_unused=True)
    for call, gradient in reversed(list(zip(calls, gradients, strict=True))):
        if gradient is None:
            continue
        if call.probabilities.shape[-2:] != (n, n) or call.probabilities.numel() % (batch * n * n):
            raise Strange(f"an attention of {list(call.probabilities.shape)} among {n} tokens")
        weighted = (call.by_head(gradient, batch) * call.by_head(call.probabilities.detach(), batch)).double()
        row = row + torch.einsum("bi,bij->bj", row, weighted.relu().mean(1))
    row[:, token] = 0
    return row


def first_tensor(args: Any, kwargs: Any) -> Tensor:
    """The stream among the arguments of a block."""
    return next(each for each in (*args, *kwargs.values()) if isinstance(each, Tensor) and each.is_floating_point())


@contextmanager
def hooked(blocks: Sequence[nn.Module], enter: Any, leave: Any) -> Iterator[None]:
    """Hooks of the blocks, within."""
    handles = [block.register_forward_pre_hook(enter, with_kwargs=True) for block in blocks]
    handles += [block.register_forward_hook(leave) for block in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def differentiable(model: nn.Module) -> Iterator[None]:
    """Every map in a graph, and no kernel that skips the Python of attention."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    parameters = [each for each in model.parameters() if each.is_floating_point()]
    required = [each.requires_grad for each in parameters]
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for each in parameters:
            each.requires_grad_(True)
        with torch.enable_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for each, flag in zip(parameters, required, strict=True):
            each.requires_grad_(flag)
