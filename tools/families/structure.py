"""Whether tokens meet anywhere but in the attention, and whether the blocks pass one stream on.

The model runs with the output of every attention, and what enters and leaves every block, held: constants with a
gradient of their own. What then still depends on another token has mixed beside the attention.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from tools.families.maps import Attention, StoredMaps
from tools.families.reference import differentiable, hooked

TOLERANCE = 1e-6


class _Held:
    """What is held of one run: each block's entry, exit, and the attentions inside."""

    def __init__(self, count: int) -> None:
        self.entered: list[Tensor] = []  # as it came
        self.entries: list[Tensor] = []  # as the block gets it
        self.left: list[Tensor] = []
        self.exits: list[Tensor] = []
        self.calls: list[list[Attention]] = [[] for _ in range(count)]


def irregularity(run: Callable[[], Any], model: nn.Module, blocks: Sequence[nn.Module], axis: int) -> str:
    """What keeps the blocks from being a chain that mixes tokens by attention alone; empty if nothing does.

    Args:
        run: runs the model.
        model: with the blocks.
        blocks: that are said to be its stream.
        axis: of the tokens in the stream.
    """
    held = _held_run(run, model, blocks)
    n = held.entries[0].shape[axis]
    tokens = sorted({0, n // 2, n - 1})
    for i in range(len(held.left)):
        if i and _depends(held.entered[i], [*held.entered[:i], *held.exits[: i - 1]]):
            return f"block {i} takes more than block {i - 1} gave"
        if i and not _depends(held.entered[i], held.exits[i - 1 : i]):
            return f"block {i} does not take what block {i - 1} gave"
        if i and _elsewhere(held.entered[i], held.exits[i - 1], tokens, axis, axis):
            return f"tokens mix between block {i - 1} and block {i}"
        if _elsewhere(held.left[i], held.entries[i], tokens, axis, axis):
            return f"tokens mix beside the attention in block {i}"
        if any(_elsewhere(held.left[i], each, tokens, axis, axis) for each in held.entered[:i] + held.exits[:i]):
            return f"tokens mix past the attention in block {i}"
        found = _attention(held, i, tokens, axis, n)
        if found:
            return found
    return ""


def _attention(held: _Held, i: int, tokens: list[int], axis: int, n: int) -> str:
    for call in held.calls[i]:
        if not _depends(held.left[i], [call.output]):
            continue
        # An earlier block's tokens are its own, too.
        own = [*held.entries[: i + 1], *held.exits[:i], *(each for each in held.entered[: i + 1] if each.requires_grad)]
        if call.values.requires_grad and not _depends(call.values, own):
            return f"the values of block {i} are not made of its input"
        if not call.values.requires_grad:
            return f"the values of block {i} are constants"
        over_keys, over_queries = call.values.shape[call.keys_axis] == n, call.output.shape[call.queries_axis] == n
        if over_keys and _elsewhere(call.values, held.entries[i], tokens, call.keys_axis, axis):
            return f"the values of block {i} stand at other tokens than they are made of"
        if over_queries and _elsewhere(held.left[i], call.output, tokens, axis, call.queries_axis):
            return f"what block {i} attends to ends at other tokens"
    return ""


def _held_run(run: Callable[[], Any], model: nn.Module, blocks: Sequence[nn.Module]) -> _Held:
    held, numbers = _Held(len(blocks)), {id(block): i for i, block in enumerate(blocks)}
    started = [0] * len(blocks)

    def enter(module: nn.Module, args: Any, kwargs: Any) -> Any:
        started[numbers[id(module)]] = len(maps.calls)
        place = next((i for i, each in enumerate(args) if _is_stream(each)), None)
        if place is not None:
            return (*args[:place], hold(args[place]), *args[place + 1 :]), kwargs
        name = next(name for name, each in kwargs.items() if _is_stream(each))
        return args, {**kwargs, name: hold(kwargs[name])}

    def hold(stream: Tensor) -> Tensor:
        held.entered.append(stream)
        held.entries.append(stream.detach().requires_grad_())
        return held.entries[-1].clone()

    def leave(module: nn.Module, args: Any, output: Any) -> Any:
        number = numbers[id(module)]
        held.calls[number] = maps.calls[started[number] :]
        several = isinstance(output, tuple | list)
        stream = output[0] if several else output
        held.left.append(stream)
        held.exits.append(stream.detach().requires_grad_())
        given = held.exits[-1].clone()
        return type(output)([given, *output[1:]]) if several else given

    with StoredMaps(held=True) as maps, hooked(blocks, enter, leave), differentiable(model):
        run()
    return held


def _is_stream(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _gradients(value: Tensor, leaves: list[Tensor]) -> list[Tensor | None]:
    if not value.requires_grad or not leaves or not all(each.requires_grad for each in leaves):
        return [None] * len(leaves)
    weights = torch.randn(value.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(value)
    return list(torch.autograd.grad((value * weights).sum(), leaves, retain_graph=True, allow_unused=True))


def _depends(value: Tensor, leaves: list[Tensor]) -> bool:
    return any(each is not None and bool(each.abs().max() > TOLERANCE) for each in _gradients(value, leaves))


def _elsewhere(value: Tensor, leaf: Tensor, tokens: list[int], axis: int, leaf_axis: int) -> bool:
    """Whether a token of a value depends on the leaf at another token."""
    for token in tokens:
        (gradient,) = _gradients(value.select(axis, token), [leaf])
        if gradient is None:
            continue
        by_token = gradient.movedim(leaf_axis, 0).flatten(1).abs().amax(1)
        largest, own = by_token.max().item(), by_token[token].item()
        by_token[token] = 0
        if largest > 0 and by_token.max().item() > TOLERANCE * max(own, largest):
            return True
    return False
