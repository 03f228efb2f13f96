"""Threads that explain models which share modules: they wait for each other, and leave what they found."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_ultra import LatentTokenAttribution
from captum_ultra.attr.latents import LatentReader
from captum_ultra.attr.methods import METHODS, method_class
from captum_ultra.relevance import explaining
from tests.attr.models import small_classifier
from tests.attr.test_models_as_found import assert_same, state_of
from tests.attr.test_threads import TIME_TO_INTRUDE, WAIT


class Wrapper(nn.Module):
    """Another model around a model, as CLIP is around its tower."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, x: Tensor) -> Tensor:
        return self.tower(x)


def sharing_blocks(model: Any) -> nn.Module:
    """Another model of the same blocks."""
    other = small_classifier()
    other.blocks = model.blocks
    return other


@pytest.mark.parametrize("other", [Wrapper, sharing_blocks])
@pytest.mark.parametrize("fails", [None, ValueError, KeyboardInterrupt])
def test_explanations_of_models_that_share_modules_wait(
    other: Callable[[nn.Module], nn.Module], fails: type[BaseException] | None
) -> None:
    first, x = small_classifier(), torch.randn(2, 3, 16, 16)
    second, thread = other(first), threading.get_ident()
    expected = LatentTokenAttribution(second).attribute(x)
    for model in (first, second):
        model.train()
    first.blocks[0].eval()
    before, began, runs = [state_of(each) for each in (first, second)], threading.Event(), list[bool]()
    intruded = threading.Event()

    def explain() -> Tensor:
        began.set()
        return LatentTokenAttribution(second).attribute(x)

    def begin(*_: Any) -> None:
        if threading.get_ident() == thread and not began.is_set():
            futures.append(pool.submit(explain))
            assert began.wait(WAIT)
            assert not intruded.wait(TIME_TO_INTRUDE)
        elif threading.get_ident() != thread:
            intruded.set()
        runs.append(threading.get_ident() == thread)
        if fails is not None and threading.get_ident() == thread:
            raise fails

    futures: list[Future[Tensor]] = []
    handles = [first.blocks[number].register_forward_pre_hook(begin) for number in (1, 2)]
    with ThreadPoolExecutor(1) as pool:
        try:
            with explaining(first):
                first(x)
        except (ValueError, KeyboardInterrupt):
            assert fails is not None
        assert torch.equal(futures[0].result(WAIT), expected)
    for handle in handles:
        handle.remove()
    own = sum(runs)
    assert own == (2 if fails is None else 1) and all(runs[:own])  # the second came when the first had ended
    for model, state in zip((first, second), before, strict=True):
        assert_same(state_of(model), state)


def test_many_threads_and_methods_on_models_that_share() -> None:
    tower, x = small_classifier(), torch.randn(2, 3, 16, 16)
    models = [tower, Wrapper(tower), sharing_blocks(tower)]
    calls: list[Callable[[], Tensor]] = [
        lambda model=model, name=name: method_class(name)(model).attribute(x, token=1, layer=2)  # type: ignore[misc]
        for model, name in zip(models * 4, METHODS, strict=True)
    ]
    shared = LatentTokenAttribution(models[1])
    calls += [lambda: shared.attribute(x, token="all"), lambda: LatentReader(tower, 1)(x)]
    calls += [lambda model=model: model(x).detach() for model in models]  # type: ignore[misc]
    models[0].patch_embed.train()  # whose mode the runs do not depend on
    expected, states = [call() for call in calls], [state_of(model) for model in models]
    threads, seen = 4, torch.get_num_threads()
    together = threading.Barrier(threads)

    def all_calls(seed: int) -> list[tuple[int, Tensor]]:
        order = random.Random(seed).sample(range(len(calls)), len(calls))
        together.wait(WAIT)
        return [(number, calls[number]()) for number in order]

    with ThreadPoolExecutor(threads) as pool:
        for found in pool.map(all_calls, range(threads)):
            assert all(torch.equal(each, expected[number]) for number, each in found)
    for model, state in zip(models, states, strict=True):
        assert_same(state_of(model), state)
    assert torch.get_num_threads() == seen
