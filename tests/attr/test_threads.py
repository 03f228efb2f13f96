"""Other threads go on using a model while it is explained; nobody gets or changes what is another's."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_ultra import LatentTokenAttribution, LeGrad
from captum_ultra.attr.latents import LatentReader
from captum_ultra.attr.methods import METHODS, method_class
from tests.attr.models import small_classifier
from tests.attr.test_models_as_found import assert_same, state_of_torch
from tests.builders.classifiers import classifier_named

WAIT = 20  # seconds; what waits longer than this hangs
TIME_TO_INTRUDE = 0.2  # seconds in which a thread that does not wait its turn is seen


CASE = classifier_named("timm-classifier-vit").case


def images(seed: int) -> Tensor:
    return torch.randn(CASE.shape, generator=torch.Generator().manual_seed(seed))


def whenever(part: nn.Module, other: Callable[[], Any]) -> list[Any]:
    """Each time that this thread has run a part of a model, ``other`` runs to its end in a second one."""
    thread, results = threading.get_ident(), list[Any]()

    def hook(*_: Any) -> None:
        if threading.get_ident() == thread:
            with ThreadPoolExecutor(1) as pool:
                results.append(pool.submit(other).result(WAIT))

    part.register_forward_hook(hook)
    return results


@contextmanager
def in_the_middle(
    part: nn.Module, other: Callable[[], Any], once: nn.Module | None = None
) -> Iterator[Callable[[], Any]]:
    """Within: ``other`` has run as far as a part of a model, and waits there in a second thread.

    It begins at once, or when this thread has run the part ``once``. Yields what waits for its result.
    """
    thread, arrived, go_on = threading.get_ident(), threading.Event(), threading.Event()
    futures: list[Future[Any]] = []

    def begin(*_: Any) -> None:
        if threading.get_ident() == thread and not futures:
            futures.append(pool.submit(other))
            assert arrived.wait(WAIT)

    def hook(*_: Any) -> None:
        if threading.get_ident() != thread and not arrived.is_set():
            arrived.set()
            assert go_on.wait(WAIT)

    handles = [part.register_forward_hook(hook)]
    with ThreadPoolExecutor(1) as pool:
        try:
            if once is None:
                begin()
            else:
                handles.append(once.register_forward_hook(begin))
            yield lambda: futures[0].result(WAIT)
        finally:
            go_on.set()
            for handle in handles:
                handle.remove()


@pytest.mark.parametrize("name", METHODS)
def test_inference_beside_an_explanation(name: str) -> None:
    model: Any = CASE.model()
    method, output = method_class(name)(model, blocks="blocks"), model(images(1)).detach()
    asked: list[dict[str, Any]] = [{"target": 1}, {"token": (1, 2), "layer": 2}]
    expected = [method.attribute(images(0), **of) for of in asked]

    def infer() -> Tensor:
        return model(images(1)).detach()

    with in_the_middle(model.blocks[1].norm2, infer) as inference:
        for of, want in zip(asked, expected, strict=True):
            assert torch.equal(method.attribute(images(0), **of), want)
    assert torch.equal(inference(), output)
    seen = whenever(model.norm_pre, infer)  # stands between the patches and the blocks
    for of, want in zip(asked, expected, strict=True):
        assert torch.equal(method.attribute(images(0), **of), want)
    assert seen and all(torch.equal(each, output) for each in seen)


def test_inference_beside_the_search_for_blocks() -> None:
    model = small_classifier()
    x = torch.randn(2, 3, 16, 16)
    expected, output = LatentTokenAttribution(model).attribute(x), model(x).detach()
    with in_the_middle(model.blocks[1].norm2, lambda: model(x).detach(), once=model.patch_embed) as inference:
        assert torch.equal(LatentTokenAttribution(model).attribute(x), expected)
    assert torch.equal(inference(), output)


def test_a_training_step_beside_an_explanation_keeps_its_gradients() -> None:
    model: Any = CASE.model()

    def gradient_of_the_input() -> Tensor:
        x = images(1).requires_grad_()
        return torch.autograd.grad(model(x).sum(), x)[0]

    expected = gradient_of_the_input()
    seen = whenever(model.norm_pre, gradient_of_the_input)
    LatentTokenAttribution(model, blocks="blocks").attribute(images(0), token=3)
    assert seen and all(torch.equal(each, expected) for each in seen)


def test_two_explanations_of_one_model_at_once() -> None:
    model, inputs = small_classifier(), torch.randn(3, 2, 3, 16, 16)
    calls: list[Callable[[], Tensor]] = [
        lambda: LeGrad(model).attribute(inputs[0], target=1),
        lambda: LatentTokenAttribution(model).attribute(inputs[1], token=[1, 5], score="sum"),
        lambda: LatentTokenAttribution(model).attribute(inputs[2], token="patches", score="energy", layer=2),
    ]
    expected = [call() for call in calls]
    together = threading.Barrier(len(calls))

    def repeated(call: Callable[[], Tensor]) -> list[Tensor]:
        together.wait(WAIT)
        return [call() for _ in range(10)]

    with ThreadPoolExecutor(len(calls)) as pool:
        for maps, want in zip(pool.map(repeated, calls), expected, strict=True):
            assert all(torch.equal(each, want) for each in maps)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_weights_get_their_gradients_from_a_training_step_beside_an_explanation() -> None:
    model: Any = CASE.model()

    def gradients_of_the_weights() -> list[Tensor]:
        found = torch.autograd.grad(model(images(1)).square().sum(), list(model.parameters()), allow_unused=True)
        return [each for each in found if each is not None]

    expected = gradients_of_the_weights()
    seen = whenever(model.norm_pre, gradients_of_the_weights)
    LatentTokenAttribution(model, blocks="blocks").attribute(images(0), token=3)
    LatentReader(model, 1, blocks="blocks")(images(0))
    assert len(seen) >= 2
    for each in seen:
        assert len(each) == len(expected) and all(map(torch.equal, each, expected))


def test_a_model_in_training_mode_trains_when_its_explanation_is_over() -> None:
    """Whoever runs it meanwhile waits, and then runs it in training mode."""
    model, x, thread = small_classifier().train(), torch.randn(2, 3, 16, 16), threading.get_ident()
    modes, started, trained = list[bool](), threading.Event(), threading.Event()

    def train() -> None:
        started.set()
        model(x)
        trained.set()

    def look(module: nn.Module, *_: Any) -> None:
        if threading.get_ident() != thread:
            modes.append(module.training)
        elif not started.is_set():
            futures.append(pool.submit(train))
            assert started.wait(WAIT)
            assert not trained.wait(TIME_TO_INTRUDE)

    futures: list[Future[None]] = []
    for module in model.modules():
        module.register_forward_hook(look)
    with ThreadPoolExecutor(1) as pool:
        LatentTokenAttribution(model, blocks="blocks").attribute(x)
        futures[0].result(WAIT)
    assert modes and all(modes)


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_other_threads_find_torch_as_it_was() -> None:
    layer = nn.TransformerEncoderLayer(32, 4, dim_feedforward=64, batch_first=True)
    score = torch.randn(32)
    model, x = nn.TransformerEncoder(layer, 3).eval(), torch.randn(2, 9, 32)
    padding = torch.arange(9) >= torch.tensor([[6], [9]])

    def infer() -> Tensor:
        with torch.no_grad():  # by torch's fused layers, on nested tensors
            return model(x, src_key_padding_mask=padding)

    before, output = state_of_torch(), infer()
    extra = {"src_key_padding_mask": padding}
    states = whenever(model.layers[1].linear1, state_of_torch)
    for explain in (
        lambda: LatentTokenAttribution(model).attribute(x, token=2, score=score, additional_forward_args=extra),
        lambda: method_class("conservative_lrp")(model).attribute(
            x, token=2, score=score, additional_forward_args=extra
        ),
        lambda: LatentReader(model, 2)(x, extra),
    ):
        states.clear()
        explain()
        assert states
        for state in states:
            assert_same(state, before)
    outputs = whenever(model.layers[1].dropout1, infer)
    LatentTokenAttribution(model).attribute(x, token=2, score=score, additional_forward_args=extra)
    assert outputs and all(torch.equal(each, output) for each in outputs)
