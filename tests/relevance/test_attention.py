"""The attention operation against an explicit loop over targets, samples and heads, in float64."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_ultra.relevance import gradient_weighted, rollout, tiles
from captum_ultra.relevance.attention import AttentionOptions, relevance_attention
from captum_ultra.relevance.ledger import Ledger
from tests.reference.attention import layer_backward, plain_attention, positive_product

RULES = {"ultra": (gradient_weighted, positive_product), "rollout": (rollout, plain_attention)}


def batched(
    q: Tensor, k: Tensor, v: Tensor, cotangents: Tensor, rows: Tensor, mask: Tensor | None, options: AttentionOptions
) -> tuple[Tensor, ...]:
    """All targets at once through the operation, as the engine does it."""
    leaves = [each.detach().requires_grad_() for each in (q, k, v, torch.zeros_like(rows[0]))]
    outputs = relevance_attention(*leaves, mask, options)
    return torch.func.vmap(lambda *seeds: torch.autograd.grad(outputs, leaves, seeds, retain_graph=True))(
        cotangents, rows
    )


def problem(seed: int, batch: int, groups: int, repeats: int, n: int, d: int, d_v: int, targets: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    heads = groups * repeats
    shapes = [(batch, heads, n, d), (batch, groups, n, d), (batch, groups, n, d_v), (targets, batch, heads, n, d_v)]
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [*tensors, torch.rand(targets, batch, n, generator=generator, dtype=torch.float64)]


def masks(kind: str, batch: int, heads: int, n: int) -> Tensor | None:
    if kind == "none":
        return None
    allowed = torch.rand(batch, 1, n, n) > 0.4
    if kind == "boolean":  # a row that may attend to nothing as well
        allowed[0, 0, 0] = False
        return allowed
    if kind == "padding":
        return torch.arange(n).expand(batch, 1, 1, n) < n - n // 3
    if kind == "window":
        distance = torch.arange(n)[:, None] - torch.arange(n)
        return ((distance >= 0) & (distance < 3))[None, None]
    return torch.randn(1, heads, n, n, dtype=torch.float64).masked_fill(~allowed[:1], -torch.inf)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16), batch=st.integers(1, 3), groups=st.integers(1, 2), repeats=st.integers(1, 3),
    n=st.integers(1, 9), d=st.integers(1, 5), d_v=st.integers(1, 5), targets=st.integers(1, 4),
    tile=st.sampled_from([1, 7, 20, 2**20]), kind=st.sampled_from(["none", "boolean", "padding", "window", "additive"]),
    rule=st.sampled_from(list(RULES)), scale=st.sampled_from([None, 0.3]),
)  # fmt: skip
def test_equals_the_explicit_loop(
    seed: int, batch: int, groups: int, repeats: int, n: int, d: int, d_v: int, targets: int, tile: int, kind: str,
    rule: str, scale: float | None,
) -> None:  # fmt: skip
    q, k, v, cotangents, rows = problem(seed, batch, groups, repeats, n, d, d_v, targets)
    torch.manual_seed(seed)
    mask = masks(kind, batch, groups * repeats, n)
    fast, slow = RULES[rule]
    options = AttentionOptions(fast, Ledger(), 0, d**-0.5 if scale is None else scale)
    with mock.patch.dict(tiles._TILE_NUMBERS, cpu=tile):
        found = batched(q, k, v, cotangents, rows, mask, options)
    expected = layer_backward(q, k, v, cotangents, rows, slow, attn_mask=mask, scale=scale, enable_gqa=repeats > 1)
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16), n=st.integers(1, 12), tile=st.sampled_from([1, 11, 2**20]))
def test_causal_tiles_skip_the_future_and_nothing_else(seed: int, n: int, tile: int) -> None:
    q, k, v, cotangents, rows = problem(seed, 2, 2, 1, n, 4, 4, 3)
    options = AttentionOptions(gradient_weighted, Ledger(), 0, 0.5, is_causal=True)
    with mock.patch.dict(tiles._TILE_NUMBERS, cpu=tile):
        found = batched(q, k, v, cotangents, rows, None, options)
    for got, want in zip(found, layer_backward(q, k, v, cotangents, rows, is_causal=True), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("grouped", [False, True])
def test_groups_of_heads_in_one_tile_change_nothing(grouped: bool) -> None:
    q, k, v, cotangents, rows = problem(3, 2, 3, 2, 6, 4, 4, 3)
    cut = [(slice(h, h + 3), slice(s, s + 2)) for h in range(0, 12, 3) for s in range(0, 6, 2)]
    options = AttentionOptions(gradient_weighted, Ledger(), 0, 0.5)
    with mock.patch.object(tiles, "cut", lambda *args: cut):
        found = batched(q, k, v, cotangents, rows, None, options)
    for got, want in zip(found, layer_backward(q, k, v, cotangents, rows, enable_gqa=True), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(
    heads=st.integers(1, 8), n=st.integers(1, 150), targets=st.integers(1, 6), numbers=st.integers(1, 4000),
    is_causal=st.booleans(), device=st.sampled_from(["cpu", "cuda"]),
)  # fmt: skip
def test_tiles_cover_every_row_of_every_head_once_within_the_budget(
    heads: int, n: int, targets: int, numbers: int, is_causal: bool, device: str
) -> None:
    with mock.patch.dict(tiles._TILE_NUMBERS, cpu=numbers, other=numbers):
        cut = list(tiles.cut(heads, n, targets, is_causal, torch.device(device)))
    covered = torch.zeros(heads, n)
    for head, rows in cut:
        covered[head, rows] += 1
        height = rows.stop - rows.start
        assert height == 1 or (head.stop - head.start) * height * n * targets <= numbers
    assert (covered == 1).all()


def test_one_target_without_vectorisation_equals_the_same_target_in_a_batch() -> None:
    q, k, v, cotangents, rows = problem(4, 2, 2, 1, 7, 4, 4, 3)
    options = AttentionOptions(gradient_weighted, Ledger(), 0, 0.5)
    together = batched(q, k, v, cotangents, rows, None, options)
    leaves = [each.detach().requires_grad_() for each in (q, k, v, torch.zeros_like(rows[0]))]
    alone = torch.autograd.grad(relevance_attention(*leaves, None, options), leaves, (cotangents[1], rows[1]))
    for one, all_of_them in zip(alone, together, strict=True):
        torch.testing.assert_close(one, all_of_them[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_products_are_accumulated_in_float32(dtype: torch.dtype) -> None:
    q, k, v, cotangents, rows = (each.to(dtype) for each in problem(5, 1, 2, 1, 64, 16, 16, 2))
    rows = rows.float()
    options = AttentionOptions(gradient_weighted, Ledger(), 0, 0.25)
    found = batched(q, k, v, cotangents, rows, None, options)
    exact = layer_backward(*(each.double() for each in (q, k, v, cotangents, rows)), scale=0.25)
    assert found[0].dtype == dtype and found[3].dtype == torch.float32
    torch.testing.assert_close(found[3].double(), exact[3], rtol=1e-5, atol=1e-6)


def test_gradients_that_are_not_finite_name_the_block() -> None:
    q, k, v, cotangents, rows = problem(6, 1, 1, 1, 3, 2, 2, 2)
    ledger = Ledger()
    batched(q, k, v, cotangents * torch.inf, rows, None, AttentionOptions(gradient_weighted, ledger, 4, 0.5))
    with pytest.raises(ValueError, match="gradients in block 4"):
        ledger.check_backward()
