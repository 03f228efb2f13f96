"""Run any model once and keep its residual stream and all its attention maps in one graph.

Two independent ways to the maps: ``record`` makes ``scaled_dot_product_attention`` and softmax
explicit while the model runs, whichever library it comes from; ``record_outputs`` takes the maps
that transformers returns from its eager attention.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_softmax = torch.Tensor.softmax


@dataclass
class Recording:
    """Residual streams ``latents[l]`` [B, n, d] after l blocks; one attention map for each block.

    The maps are the tensors of the graph, in the model's own shape: [B, H, n, n], [B H, n, n], or
    [B, H, n, n + 1] with a sink column; ``by_head`` brings them and their gradients to [B, H, n, n],
    in the precision of the latents where the model's own softmax has less.
    """

    latents: list[Tensor] = field(default_factory=list)
    maps: list[Tensor] = field(default_factory=list)

    def by_head(self, values: Tensor) -> Tensor:
        samples, n = self.latents[0].shape[:2]
        return values.reshape(samples, -1, n, values.shape[-1])[..., :n].to(self.latents[0].dtype)


def explicit_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, dropout_p: float = 0.0,
    is_causal: bool = False, scale: float | None = None, enable_gqa: bool = False,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``scaled_dot_product_attention`` by its definition: the output [..., n, d_v] and the map [..., n, n]."""
    assert dropout_p == 0.0, "the reference explains models in evaluation mode"
    if enable_gqa:
        repeats = query.shape[-3] // key.shape[-3]
        key, value = key.repeat_interleave(repeats, dim=-3), value.repeat_interleave(repeats, dim=-3)
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    rows, columns = scores.shape[-2:]
    if is_causal:
        attn_mask = torch.ones(rows, columns, dtype=torch.bool).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros(attn_mask.shape, dtype=scores.dtype).masked_fill(~attn_mask, -math.inf)
    if attn_mask is not None:
        scores = scores + attn_mask
    # A row that may attend to nothing gives zeros (as the fused kernels do), not NaN.
    nothing = scores.detach().max(dim=-1, keepdim=True).values == -math.inf
    probabilities = _softmax(scores.masked_fill(nothing, 0), -1).masked_fill(nothing, 0)
    return probabilities @ value, probabilities


def record(
    run: Callable[[], Any], model: nn.Module, blocks: Sequence[nn.Module], batch_first: bool = True
) -> Recording:
    """Record the run of a model; its attention, fused or its own softmax, is that inside its blocks."""
    kept: list[list[Tensor]] = [[] for _ in blocks]

    with _recorded(model, blocks, batch_first) as (recording, running), ExitStack() as patches:

        def keep(probabilities: Tensor) -> Tensor:
            if running:
                kept[running[-1]].append(probabilities)
            return probabilities

        def fused(*args: Any, **kwargs: Any) -> Tensor:
            output, probabilities = explicit_attention(*args, **kwargs)
            keep(probabilities)
            return output

        def softmax(scores: Tensor, *args: Any, dim: Any = None, dtype: Any = None, **rest: Any) -> Tensor:
            probabilities = _softmax(scores, args[0] if dim is None else dim, dtype)
            square = scores.dim() >= 3 and scores.shape[-1] - scores.shape[-2] in (0, 1)
            return keep(probabilities) if square else probabilities

        patches.enter_context(mock.patch.object(F, "scaled_dot_product_attention", fused))
        for place in (F, torch, torch.Tensor, torch.special):
            patches.enter_context(mock.patch.object(place, "softmax", softmax))
        run()
    for index, maps in enumerate(kept):
        assert len(maps) == 1, f"block {index} made {len(maps)} attention maps"
    recording.maps = [maps[0] for maps in kept]
    return recording


def record_outputs(run: Callable[..., Any], model: nn.Module, blocks: Sequence[nn.Module]) -> Recording:
    """Record a transformers model with eager attention through its own ``output_attentions=True``."""
    with _recorded(model, blocks, batch_first=True) as (recording, _):
        recording.maps = list(run(output_attentions=True).attentions)
    assert len(recording.maps) == len(blocks)
    return recording


@contextmanager
def _recorded(
    model: nn.Module, blocks: Sequence[nn.Module], batch_first: bool
) -> Iterator[tuple[Recording, list[int]]]:
    """Within: what the blocks put out is kept, and the list says which block is running."""
    recording, running = Recording(), list[int]()

    def keep(stream: Any) -> None:
        stream = stream[0] if isinstance(stream, tuple) else stream
        recording.latents.append(stream if batch_first else stream.transpose(0, 1))

    def enter(index: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            running.append(index)
            if index == 0:
                keep(args or next(iter(kwargs.values())))

        return hook

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        running.pop()
        keep(output)

    handles = [block.register_forward_pre_hook(enter(i), with_kwargs=True) for i, block in enumerate(blocks)]
    handles += [block.register_forward_hook(leave) for block in blocks]
    try:
        with _differentiable(model):
            yield recording, running
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _differentiable(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, every map in a graph, and no fused kernel that skips the Python of attention."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    training = [(module, module.training) for module in model.modules()]
    required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        model.eval().requires_grad_(True)
        with torch.inference_mode(False), torch.enable_grad():
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
        for module, flag in training:
            module.training = flag
        for parameter, flag in required:
            parameter.requires_grad_(flag)
