"""The references of latent tokens against the libraries, autograd, each other, and what can be worked by hand."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from tests.reference.account import account, share, stream
from tests.reference.account_models import ACTIVATIONS, NETWORKS, Affine, Layer, Network, Norm, case_of, exact
from tests.reference.latent_baselines import alti, decomposed, decompx, value_zeroing

LIBRARY = {
    "gelu": F.gelu, "gelu_new": lambda x: F.gelu(x, approximate="tanh"), "silu": F.silu, "relu": F.relu,
    "quick_gelu": lambda x: x * torch.sigmoid(1.702 * x),
}  # fmt: skip


@cache
def recorded(name: str) -> tuple[Network, list[Tensor]]:
    """A network and the latents [2, n, d] that its library makes, one batch for each block and one before."""
    case = case_of(name)
    model = case.model(torch.float64)
    with exact():
        recording = case.record(model, case.inputs(torch.float64))
    return NETWORKS[name](model), [each.detach() for each in recording.latents]


@cache
def direction_of(name: str) -> Tensor:
    return torch.randn(recorded(name)[1][0].shape[2], dtype=torch.float64, generator=torch.Generator().manual_seed(5))


shapes = st.fixed_dictionaries({
    "order": st.sampled_from(["pre", "post", "parallel"]), "norm": st.sampled_from(["layer", "rms", "none"]),
    "activation": st.sampled_from(sorted(ACTIVATIONS)), "gated": st.booleans(), "turned": st.booleans(),
    "causal": st.booleans(), "heads": st.sampled_from([(1, 1), (2, 2), (4, 2), (2, 1)]), "depth": st.integers(1, 3),
    "n": st.integers(1, 4), "seed": st.integers(0, 1000),
})  # fmt: skip


def turn(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
    """Pairs of channels [heads, n, 2] turned by an angle of their position."""
    angle = torch.arange(q.shape[1], dtype=q.dtype)[:, None]
    swap = torch.tensor([[0.0, 1.0], [-1.0, 0.0]], dtype=q.dtype)
    return tuple(x * angle.cos() + x @ swap * angle.sin() for x in (q, k))  # type: ignore[return-value]


def random(shape: dict[str, Any]) -> tuple[Network, Tensor, Tensor]:
    """A network of this shape, the stream [n, d] that enters it, and a direction."""
    generator = torch.Generator().manual_seed(shape["seed"])
    (heads, groups), c, d, h = shape["heads"], 2, 6, 5

    def draw(*size: int) -> Tensor:
        return torch.randn(size, generator=generator, dtype=torch.float64)

    def affine(outputs: int, inputs: int) -> Affine:
        return Affine(draw(outputs, inputs) * 1.5 / math.sqrt(inputs), draw(outputs) / 2)

    def norm() -> Norm:
        return Norm(shape["norm"], 1 + draw(d) / 4, draw(d) / 2 if shape["norm"] == "layer" else None, 1e-3)

    layers = [
        Layer(
            shape["order"], heads, groups, (norm(), norm()),
            *(affine(each * c, d) for each in (heads, groups, groups)), affine(d, heads * c), affine(h, d),
            affine(d, h), affine(h, d) if shape["gated"] else None, shape["activation"],
            turn if shape["turned"] else None, shape["causal"], (draw(d), 0.5),
        )
        for _ in range(shape["depth"])
    ]  # fmt: skip
    return Network(layers), draw(shape["n"], d), draw(d)


def held(x: Tensor) -> Tensor:
    """Half of the gradient."""
    return (x + x.detach()) / 2


def biases_of(network: Network) -> list[Tensor]:
    """All biases."""
    found = []
    for layer in network.layers:
        projections = (layer.query, layer.key, layer.value, layer.out, layer.up, layer.down, layer.gate)
        found += [each.bias for each in (*layer.norms, *projections) if each is not None and each.bias is not None]
    return found


def differentiable(layer: Layer, x: Tensor, attention: str, gates: str, gamma: float) -> Tensor:
    """A block whose ordinary gradient is the account: what is constant is detached, what takes half is ``held``."""

    def norm(each: Norm, x: Tensor) -> Tensor:
        if each.kind == "none":
            return x
        x = x - x.mean(1, keepdim=True) if each.kind == "layer" else x
        y = x / (x.square().mean(1, keepdim=True) + each.eps).sqrt().detach() * each.weight
        return y if each.bias is None else y + each.bias

    def add(x: Tensor, u: Tensor) -> Tensor:
        y = (x + u).detach()
        towards = [1 + gamma * (each.detach() * y > 0) for each in (x, u)]
        factor = y / (towards[0] * x + towards[1] * u).detach()
        return x * towards[0] * factor + u * towards[1] * factor

    def attend(x: Tensor) -> Tensor:
        q, k, v = (f(x).view(len(x), -1, 2).transpose(0, 1) for f in (layer.query, layer.key, layer.value))
        q, k = layer.rotary(q, k) if layer.rotary else (q, k)
        k, v = (each.repeat_interleave(layer.heads // layer.groups, dim=0) for each in (k, v))
        scores = held(q) @ held(k).transpose(1, 2) / math.sqrt(2)
        mask = torch.ones(len(x), len(x), dtype=torch.bool).triu(1) if layer.causal else torch.tensor(False)
        maps = scores.masked_fill(mask, -torch.inf).softmax(-1)
        mixed = maps.detach() @ v if attention == "constant" else held(maps) @ held(v)
        return layer.out(mixed.transpose(0, 1).flatten(1)) * layer.scales[0]

    def act(x: Tensor) -> Tensor:
        y = LIBRARY[layer.activation](x)
        return y if gates == "gradient" else x * (y / x).detach()

    def think(x: Tensor) -> Tensor:
        if layer.gate is None:
            hidden = act(layer.up(x))
        else:
            gate, up = act(layer.gate(x)), layer.up(x)
            pairs = {"gradient": (gate, up), "constant": (gate.detach(), up), "halves": (held(gate), held(up))}
            hidden = pairs[gates][0] * pairs[gates][1]
        return layer.down(hidden) * layer.scales[1]

    first, second = layer.norms
    if layer.order == "parallel":
        return add(x, attend(norm(first, x)) + think(norm(second, x)))
    if layer.order == "post":
        x = norm(first, add(x, attend(x)))
        return norm(second, add(x, think(x)))
    x = add(x, attend(norm(first, x)))
    return add(x, think(norm(second, x)))


@pytest.mark.parametrize("name", NETWORKS)
def test_network_gives_the_latents_of_the_library(name: str) -> None:
    network, latents = recorded(name)
    assert len(network.layers) == len(latents) - 1
    for sample in range(2):
        found = [each[sample] for each in latents]
        for layer, each in enumerate(found):
            ours = stream(network, found[0], layer)[0]
            torch.testing.assert_close(ours, each, rtol=1e-10, atol=1e-10)


def test_llama_in_its_own_precision_is_near_the_network() -> None:
    case = case_of("hf-LlamaForCausalLM-sdpa")
    latents = case.record(case.model(torch.float64), case.inputs()).latents
    for ours, theirs in zip(recorded(case.name)[1], latents, strict=True):
        torch.testing.assert_close(ours, theirs.detach(), rtol=1e-5, atol=1e-5)


@settings(max_examples=80, deadline=None)
@given(
    shapes, st.sampled_from(["constant", "halves"]), st.sampled_from(["gradient", "constant", "halves"]),
    st.sampled_from([0.0, 0.5, 3.0]),
)  # fmt: skip
def test_account_is_what_autograd_finds(shape: dict[str, Any], attention: str, gates: str, gamma: float) -> None:
    network, x0, direction = random(shape)
    token = shape["seed"] % shape["n"]
    found = account(network, x0, shape["depth"], token, direction, attention=attention, gates=gates, gamma=gamma)
    leaves = [x0, *biases_of(network)]
    for leaf in leaves:
        leaf.requires_grad_(True)
    x = x0
    for layer in network.layers:
        x = differentiable(layer, x, attention, gates, gamma)
    value = x[token] @ direction
    gradients = torch.autograd.grad(value, leaves, allow_unused=True)
    of_x, *of_biases = (leaf * (0 if g is None else g) for leaf, g in zip(leaves, gradients, strict=True))
    torch.testing.assert_close(torch.tensor(found.value, dtype=torch.float64), value.detach())
    torch.testing.assert_close(found.contributions, of_x.detach(), rtol=1e-9, atol=1e-9)
    assert found.constants == pytest.approx(sum(each.sum().item() for each in of_biases), rel=1e-9, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(shapes, st.sampled_from(["constant", "halves"]), st.sampled_from([0.0, 3.0]))
def test_account_of_random_networks_balances(shape: dict[str, Any], gates: str, gamma: float) -> None:
    network, x0, direction = random(shape)
    for layer in range(shape["depth"] + 1):
        found = account(network, x0, layer, shape["n"] - 1, direction, gates=gates, gamma=gamma)
        balance = found.contributions.sum().item() + found.constants
        assert balance == pytest.approx(found.value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("gamma", [0.0, 3.0])
@pytest.mark.parametrize("gates", ["constant", "halves"])
@pytest.mark.parametrize("name", NETWORKS)
def test_account_of_library_models_balances(name: str, gates: str, gamma: float) -> None:
    network, latents = recorded(name)
    found = account(network, latents[0][0], 3, 4, direction_of(name), gates=gates, gamma=gamma)
    assert found.contributions.sum().item() + found.constants == pytest.approx(found.value, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_decomposed_vectors_are_the_account(name: str) -> None:
    network, latents = recorded(name)
    found = account(network, latents[0][1], 3, 4, direction_of(name), gates="constant")
    vectors = decompx(network, latents[0][1], 3, 4)
    torch.testing.assert_close(vectors @ direction_of(name), found.contributions.sum(1), rtol=1e-9, atol=1e-9)
    parts = decomposed(network, latents[0][1], 3)
    torch.testing.assert_close(parts.sum(1), latents[3][1], rtol=1e-9, atol=1e-9)
    assert (parts[4, -1] @ direction_of(name)).item() == pytest.approx(found.constants, rel=1e-9, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_decomposed_vectors_are_the_account_of_random_networks(shape: dict[str, Any]) -> None:
    network, x0, direction = random(shape)
    for token in range(shape["n"]):
        found = account(network, x0, shape["depth"], token, direction, gates="constant")
        vectors = decompx(network, x0, shape["depth"], token)
        torch.testing.assert_close(vectors @ direction, found.contributions.sum(1), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("baseline", [alti, value_zeroing])
@pytest.mark.parametrize("name", NETWORKS)
def test_rows_of_baselines_are_shares(name: str, baseline: Any) -> None:
    network, latents = recorded(name)
    row = baseline(network, latents[0][0], 3, 4)
    assert row.min() >= 0
    assert row.sum().item() == pytest.approx(1)
    if network.layers[0].causal:
        assert row[5:].max() == 0


@settings(max_examples=40, deadline=None)
@given(shapes)
def test_rows_of_baselines_of_random_networks(shape: dict[str, Any]) -> None:
    """Where all the parts of a latent point away from it, ALTI says nothing: less than one is left."""
    network, x0, _ = random(shape)
    for baseline in (alti, value_zeroing):
        row = baseline(network, x0, shape["depth"], shape["n"] - 1)
        assert row.min() >= 0
        assert row.sum() <= 1 + 1e-9


def test_baselines_worked_by_hand() -> None:
    """One block that adds the mean of the tokens to each, and whose MLP adds nothing."""
    eye, zeros = torch.eye(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)
    norm = Norm("none", torch.ones(2, dtype=torch.float64))
    mean = [Affine(each) for each in (zeros, zeros, eye, eye, zeros, zeros)]
    network = Network([Layer("pre", 1, 1, (norm, norm), *mean)])
    x0 = torch.tensor([[2.0, 0.0], [0.0, 4.0]], dtype=torch.float64)
    torch.testing.assert_close(stream(network, x0, 1)[0][0], torch.tensor([3.0, 2.0], dtype=torch.float64))
    # |y| = 5; without itself (3, 0) of it (0, 2) is left, without the other (0, 2) it is (3, 0).
    expected = torch.tensor([3 / 5, 2 / 5], dtype=torch.float64)
    torch.testing.assert_close(alti(network, x0, 1, 0), expected)
    # Without the values, (2, 2) and (3, 0) are left of (3, 2).
    changes = torch.tensor([1 - 10 / math.sqrt(13 * 8), 1 - 9 / math.sqrt(13 * 9)], dtype=torch.float64)
    torch.testing.assert_close(value_zeroing(network, x0, 1, 0), changes / changes.sum())


@pytest.mark.parametrize("name", ["timm-classifier-vit", "hf-LlamaForCausalLM-sdpa", "torch-encoder-postnorm"])
def test_before_the_first_block_a_token_is_its_own(name: str) -> None:
    network, latents = recorded(name)
    x0, direction = latents[0][0], direction_of(name)
    found = account(network, x0, 0, 4, direction, gamma=3.0)
    expected = torch.zeros_like(x0)
    expected[4] = x0[4] * direction
    torch.testing.assert_close(found.contributions, expected)
    assert found.constants == 0
    alone = torch.eye(len(x0), dtype=torch.float64)[4]
    torch.testing.assert_close(alti(network, x0, 0, 4), alone)
    torch.testing.assert_close(value_zeroing(network, x0, 0, 4), alone)


def test_share_worked_by_hand() -> None:
    """Against each other, both along their sum, a sum of zero, and nothing at all."""
    x, u, g, expected_x, expected_u = torch.tensor(
        [[3.0, 1, 2, 0], [-1, 1, -2, 0], [1, 2, 5, 7], [8 / 11, 2, 5, 7], [2 / 11, 2, 5, 7]], dtype=torch.float64
    )
    of_x, of_u = share(x, u, g, 3.0)
    torch.testing.assert_close(of_x, expected_x)
    torch.testing.assert_close(of_u, expected_u)
    torch.testing.assert_close(x * of_x + u * of_u, g * (x + u))
    for plain in share(x, u, g, 0.0):
        torch.testing.assert_close(plain, g)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_their_derivatives(name: str) -> None:
    x = torch.linspace(-4, 4, 40, dtype=torch.float64, requires_grad=True)
    y = LIBRARY[name](x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    function, derivative = ACTIVATIONS[name]
    torch.testing.assert_close(function(x.detach()), y.detach())
    torch.testing.assert_close(derivative(x.detach()), slope)
