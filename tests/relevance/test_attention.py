"""The two operations that carry relevance against an explicit loop over targets, samples and heads, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_ultra import UnsupportedModelError
from captum_ultra.relevance import Flow, Rule, gradient_rows, gradient_weighted, rollout, row_gradient, tiles
from captum_ultra.relevance.attention import relevance_attention
from captum_ultra.relevance.calls import AttentionCall
from captum_ultra.relevance.ledger import Ledger
from captum_ultra.relevance.passage import Passage
from captum_ultra.relevance.probabilities import relevance_probabilities
from tests.reference import attention as reference

RULES: dict[str, tuple[Rule, Any]] = {
    "products": (gradient_weighted, reference.positive_product),
    "gradients": (gradient_rows, reference.positive_gradient),
    "rollout": (rollout, reference.plain_attention),
    "rows": (row_gradient(slice(None)), reference.row_weighted),
}
MASKS = ["none", "causal", "boolean", "padding", "window", "additive"]
BLOCK = 4


@dataclass(frozen=True)
class Whole:
    """Factors of a layer's maps, all of them in memory [B, H, n, n]."""

    values: Tensor

    def quotient(self, head: slice, rows: slice, keys: slice) -> Tensor:
        return self.values.flatten(0, 1)[head, rows, keys]


def carried(flow: Flow, ledger: Ledger | None = None) -> Passage:
    """The place of a layer whose trace is being pulled back by a flow."""
    passage = Passage(ledger or Ledger(), BLOCK)
    passage.ledger.flow = flow
    return passage


def together(outputs: Any, leaves: list[Tensor], cotangents: Tensor, rows: Tensor) -> tuple[Tensor, ...]:
    """Gradients of all targets at once, as the engine asks for them."""
    return torch.func.vmap(lambda *seeds: torch.autograd.grad(outputs, leaves, seeds, retain_graph=True))(
        cotangents, rows
    )


def leaves_of(*tensors: Tensor) -> list[Tensor]:
    return [each.detach().requires_grad_() for each in tensors]


def fused(
    q: Tensor, k: Tensor, v: Tensor, cotangents: Tensor, rows: Tensor, passage: Passage, **options: Any
) -> tuple[Tensor, ...]:
    leaves = leaves_of(q, k, v, torch.zeros_like(rows[0]))
    outputs = relevance_attention(AttentionCall.of(*leaves[:3], **options), leaves[3], passage)
    return together(outputs, leaves, cotangents, rows)


def problem(seed: int, batch: int, groups: int, repeats: int, n: int, d: int, d_v: int, targets: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    heads = groups * repeats
    shapes = [(batch, heads, n, d), (batch, groups, n, d), (batch, groups, n, d_v), (targets, batch, heads, n, d_v)]
    tensors = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [*tensors, torch.rand(targets, batch, n, generator=generator, dtype=torch.float64)]


def options_of(kind: str, batch: int, heads: int, n: int) -> dict[str, Any]:
    allowed = torch.rand(batch, 1, n, n) > 0.4
    allowed[0, 0, 0] = kind != "boolean"  # a row that may attend to nothing as well
    distance = torch.arange(n)[:, None] - torch.arange(n)
    return {
        "none": {}, "causal": {"is_causal": True}, "boolean": {"attn_mask": allowed},
        "padding": {"attn_mask": torch.arange(n).expand(batch, 1, 1, n) < n - n // 3},
        "window": {"attn_mask": ((distance >= 0) & (distance < 3))[None, None]},
        "additive": {
            "attn_mask": torch.randn(1, heads, n, n, dtype=torch.float64).masked_fill(~allowed[:1], -torch.inf)
        },
    }[kind]  # fmt: skip


def factors(batch: int, heads: int, n: int) -> dict[str, Tensor]:
    """Of the flow: cells, keys and tokens, some of them zero and some negative."""
    return {
        "cells": torch.randn(batch, heads, n, n, dtype=torch.float64),
        "keys": torch.rand(batch, heads, n, dtype=torch.float64).round(decimals=1),
        "tokens": 1 + torch.rand(batch, n, dtype=torch.float64),
    }


def flow_of(rule: Rule, residual: bool, given: dict[str, Tensor]) -> Flow:
    found = {name: {BLOCK: Whole(each) if name == "cells" else each} for name, each in given.items()}
    return Flow(rule, residual, **found)  # type: ignore[arg-type]


@settings(max_examples=120, deadline=None)
@given(
    seed=st.integers(0, 2**16), batch=st.integers(1, 3), groups=st.integers(1, 2), repeats=st.integers(1, 3),
    n=st.integers(1, 9), d=st.integers(1, 5), d_v=st.integers(1, 5), targets=st.integers(1, 4),
    tile=st.sampled_from([1, 7, 20, 2**20]), kind=st.sampled_from(MASKS), rule=st.sampled_from(list(RULES)),
    scale=st.sampled_from([None, 0.3]), residual=st.booleans(), weighted=st.booleans(),
)  # fmt: skip
def test_fused_attention_equals_the_explicit_loop(
    seed: int, batch: int, groups: int, repeats: int, n: int, d: int, d_v: int, targets: int, tile: int, kind: str,
    rule: str, scale: float | None, residual: bool, weighted: bool,
) -> None:  # fmt: skip
    tensors = problem(seed, batch, groups, repeats, n, d, d_v, targets)
    torch.manual_seed(seed)
    heads = groups * repeats
    options = {**options_of(kind, batch, heads, n), "scale": scale, "enable_gqa": repeats > 1}
    (fast, slow), given = RULES[rule], factors(batch, heads, n) if weighted else {}
    with mock.patch.dict(tiles._TILE_NUMBERS, cpu=tile):
        found = fused(*tensors, carried(flow_of(fast, residual, given)), **options)
    expected = reference.layer_backward(*tensors, slow, residual=residual, **given, **options)
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**16), batch=st.integers(1, 3), heads=st.integers(1, 4), n=st.integers(1, 8),
    targets=st.integers(1, 4), sink=st.booleans(), rule=st.sampled_from(list(RULES)), residual=st.booleans(),
    weighted=st.booleans(),
)  # fmt: skip
def test_probabilities_equal_the_explicit_loop(
    seed: int, batch: int, heads: int, n: int, targets: int, sink: bool, rule: str, residual: bool, weighted: bool
) -> None:
    q, k, v, cotangents, rows = problem(seed, batch, heads, 1, n, 4, 3, targets)
    torch.manual_seed(seed)
    leaves = leaves_of(q, k, v, torch.zeros_like(rows[0]))
    scores = leaves[0] @ leaves[1].transpose(-2, -1) / 2
    if sink:  # far below every score, so that the explicit loop without it is right
        scores = torch.cat([scores, torch.full_like(scores[..., :1], -1e4)], -1)
    (fast, slow), given = RULES[rule], factors(batch, heads, n) if weighted else {}
    passage = carried(flow_of(fast, residual, given))
    probabilities, relevance = relevance_probabilities(scores.softmax(-1), leaves[3], passage)
    found = together((probabilities[..., :n] @ leaves[2], relevance), leaves, cotangents, rows)
    passage.ledger.check_backward()
    expected = reference.layer_backward(q, k, v, cotangents, rows, slow, residual=residual, **given)
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("rule", ["products", "rollout"])
def test_one_target_alone_and_without_what_it_does_not_need(rule: str) -> None:
    """A single target needs no vectorisation, a rollout no gradient, and gradients no relevance."""
    q, k, v, cotangents, rows = problem(4, 2, 2, 1, 7, 4, 4, 3)
    passage = carried(Flow(RULES[rule][0]))
    expected = fused(q, k, v, cotangents, rows, passage)
    leaves = leaves_of(q, k, v, torch.zeros_like(rows[0]))
    output, relevance = relevance_attention(AttentionCall.of(*leaves[:3]), leaves[3], passage)
    alone = torch.autograd.grad((output, relevance), leaves, (cotangents[1], rows[1]), retain_graph=True)
    plain = torch.autograd.grad(output, leaves[:3], cotangents[1], retain_graph=True)
    for one, without, every in zip(alone, (*plain, alone[3]), expected, strict=True):
        torch.testing.assert_close(one, every[1], rtol=1e-12, atol=1e-14)
        assert torch.equal(without, one)
    if rule == "rollout":
        assert torch.equal(torch.autograd.grad(relevance, leaves[3], rows[1])[0], alone[3])
    else:
        with pytest.raises(UnsupportedModelError, match=f"no gradient reaches the attention of block {BLOCK}"):
            torch.autograd.grad(relevance, leaves[3], rows[1])


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


def test_groups_of_heads_in_one_tile_change_nothing() -> None:
    """Tiles as an accelerator cuts them."""
    tensors = problem(3, 2, 3, 2, 6, 4, 4, 3)
    cut = [(slice(h, h + 3), slice(s, s + 2)) for h in range(0, 12, 3) for s in range(0, 6, 2)]
    with mock.patch.object(tiles, "cut", lambda *args: cut):
        found = fused(*tensors, carried(Flow(gradient_weighted)))
    for got, want in zip(found, reference.layer_backward(*tensors, enable_gqa=True), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_products_are_accumulated_in_float32(dtype: torch.dtype) -> None:
    q, k, v, cotangents, rows = (each.to(dtype) for each in problem(5, 1, 2, 1, 64, 16, 16, 2))
    found = fused(q, k, v, cotangents, rows.float(), carried(Flow(gradient_weighted)))
    exact = reference.layer_backward(*(each.double() for each in (q, k, v, cotangents, rows)))
    assert found[0].dtype == dtype and found[3].dtype == torch.float32
    torch.testing.assert_close(found[3].double(), exact[3], rtol=1e-5, atol=1e-6)


def test_gradients_that_are_not_finite_name_the_block() -> None:
    q, k, v, cotangents, rows = problem(6, 1, 1, 1, 3, 2, 2, 2)
    passage = carried(Flow(gradient_weighted))
    fused(q, k, v, cotangents * torch.inf, rows, passage)
    with pytest.raises(ValueError, match=f"gradients in block {BLOCK}"):
        passage.ledger.check_backward()


def test_an_extra_key_that_the_output_depends_on_is_no_sink() -> None:
    probabilities = torch.rand(1, 2, 3, 4, requires_grad=True)
    source = torch.zeros(1, 3, requires_grad=True)
    passage = carried(Flow(gradient_weighted))
    followed, relevance = relevance_probabilities(probabilities, source, passage)
    torch.autograd.grad((followed.sum(), relevance), source, (torch.ones(()), torch.ones(1, 3)))
    with pytest.raises(UnsupportedModelError, match=f"block {BLOCK} attends to keys beside its tokens"):
        passage.ledger.check_backward()
