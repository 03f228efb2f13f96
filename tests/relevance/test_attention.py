"""The two kinds of attention between cuts against an explicit loop over targets, samples and heads, in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from captum_ultra import UnsupportedModelError
from captum_ultra.relevance import Flow, Rule, gradient_rows, gradient_weighted, rollout, row_gradient, tiles
from captum_ultra.relevance.attention import FusedAttention
from captum_ultra.relevance.calls import AttentionCall
from captum_ultra.relevance.cuts import Passing, Pulled, RowGradient
from captum_ultra.relevance.descent import pull
from captum_ultra.relevance.ledger import Ledger
from captum_ultra.relevance.probabilities import ExplicitAttention
from captum_ultra.relevance.projections import Projections
from captum_ultra.relevance.sinks import Sinks
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


def crossed(crossing: Any, gradient: Any, rows: Tensor, flow: Flow, leaves: list[Tensor]) -> tuple[Tensor, ...]:
    """Gradients of the leaves, and the relevance below, of a crossing whose signals are made of the leaves."""
    above = flow.arriving(BLOCK, rows)
    passing = Passing(flow.rule, above, flow.cells.get(BLOCK))
    if isinstance(gradient, RowGradient):
        found, added = crossing.back_by_row(gradient, passing)
    else:
        found, added = crossing.back(gradient, passing, True)
    return *pulled(found, leaves), flow.below(BLOCK, above, added)


def pulled(found: Pulled, leaves: list[Tensor]) -> list[Tensor]:
    gradients = pull(found, [get_gradient_edge(each) for each in leaves])
    return [each for each in gradients if each is not None]


def leaves_of(*tensors: Tensor) -> list[Tensor]:
    return [each.detach().requires_grad_() for each in tensors]


def fused(
    q: Tensor, k: Tensor, v: Tensor, gradient: Any, rows: Tensor, flow: Flow, **options: Any
) -> tuple[Tensor, ...]:
    leaves = leaves_of(q, k, v)
    crossing = FusedAttention(AttentionCall.of(*(each.clone() for each in leaves), **options))
    return crossed(crossing, gradient, rows, flow, leaves)


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
    scale=st.sampled_from([None, 0.3]), residual=st.booleans(), weighted=st.booleans(), reached=st.integers(0, 3),
)  # fmt: skip
def test_fused_attention_equals_the_explicit_loop(
    seed: int, batch: int, groups: int, repeats: int, n: int, d: int, d_v: int, targets: int, tile: int, kind: str,
    rule: str, scale: float | None, residual: bool, weighted: bool, reached: int,
) -> None:  # fmt: skip
    tensors = problem(seed, batch, groups, repeats, n, d, d_v, targets)
    torch.manual_seed(seed)
    heads = groups * repeats
    options = {**options_of(kind, batch, heads, n), "scale": scale, "enable_gqa": repeats > 1}
    (fast, slow), given = RULES[rule], factors(batch, heads, n) if weighted else {}
    *signals, cotangents, rows = tensors
    if reached:  # some query rows are beyond what any target reaches
        cotangents[..., reached:, :] = 0
    with mock.patch.dict(tiles._TILE_NUMBERS, cpu=tile):
        found = fused(*signals, cotangents, rows, flow_of(fast, residual, given), **options)
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
    ledger, probabilities = Ledger(), scores.softmax(-1)
    crossing = ExplicitAttention(probabilities, ledger, BLOCK)
    # What multiplies the values lies above the cut.
    followed = probabilities.detach().requires_grad_()
    of_map, of_values = torch.func.vmap(
        lambda seed: torch.autograd.grad(followed[..., :n] @ leaves[2], (followed, leaves[2]), seed, retain_graph=True)
    )(cotangents)
    of_q, of_k, below = crossed(crossing, of_map, rows, flow_of(fast, residual, given), leaves[:2])
    ledger.check_backward()
    expected = reference.layer_backward(q, k, v, cotangents, rows, slow, residual=residual, **given)
    for got, want in zip((of_q, of_k, of_values, below), expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-11)


@settings(max_examples=80, deadline=None)
@given(
    seed=st.integers(0, 2**16), batch=st.integers(1, 3), groups=st.integers(1, 2), repeats=st.integers(1, 3),
    n=st.integers(1, 9), d=st.integers(1, 5), d_v=st.integers(1, 5), targets=st.integers(1, 4),
    kind=st.sampled_from(MASKS), rule=st.sampled_from(["products", "gradients", "rows"]), residual=st.booleans(),
)  # fmt: skip
def test_one_row_a_target_equals_the_explicit_loop(
    seed: int, batch: int, groups: int, repeats: int, n: int, d: int, d_v: int, targets: int, kind: str, rule: str,
    residual: bool,
) -> None:  # fmt: skip
    *signals, cotangents, rows = problem(seed, batch, groups, repeats, n, d, d_v, targets)
    torch.manual_seed(seed)
    options = {**options_of(kind, batch, groups * repeats, n), "enable_gqa": repeats > 1}
    gradient = RowGradient(cotangents[:, :, :, 0], torch.randint(n, (targets, batch)))
    fast, slow = RULES[rule]
    flow = Flow(fast, residual)
    found = fused(*signals, gradient, rows, flow, **options)
    expected = reference.layer_backward(*signals, gradient.whole(n), rows, slow, residual=residual, **options)
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)
    alone = FusedAttention(AttentionCall.of(*leaves_of(*signals), **options), constant=True)
    torch.testing.assert_close(alone.back_by_row(gradient, None)[0][0][1], expected[2], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("rule", ["products", "rollout"])
def test_what_is_not_asked_for_is_left_out(rule: str) -> None:
    """Relevance alone at the last block, gradients alone above the first; a rollout needs none."""
    q, k, v, cotangents, rows = problem(4, 2, 2, 1, 7, 4, 4, 3)
    flow = Flow(RULES[rule][0])
    expected = fused(q, k, v, cotangents, rows, flow)
    crossing = FusedAttention(AttentionCall.of(*leaves_of(q, k, v)))
    nothing, added = crossing.back(cotangents, Passing(flow.rule, rows), False)
    assert not nothing and added is not None
    torch.testing.assert_close(flow.below(BLOCK, rows, added), expected[3], rtol=1e-12, atol=1e-14)
    gradients, none = crossing.back(cotangents, None, True)
    assert none is None
    for (_, one), every in zip(gradients, expected[:3], strict=True):
        torch.testing.assert_close(one, every, rtol=1e-12, atol=1e-14)
    constant = FusedAttention(AttentionCall.of(*leaves_of(q, k, v)), constant=True)
    torch.testing.assert_close(constant.back(cotangents, None, True)[0][0][1], expected[2], rtol=1e-12, atol=1e-14)
    if rule == "rollout":
        _, without = crossing.back(None, Passing(flow.rule, rows), False)
        assert without is not None and torch.equal(without, added)


@pytest.mark.parametrize("layout", ["one projection", "separate", "one tensor", "expanded", "overlapping"])
def test_gradients_go_into_what_queries_keys_and_values_are_views_of(layout: str) -> None:
    x = torch.randn(2, 5, 12, dtype=torch.float64, requires_grad=True)
    joined = x.exp()
    parts = {
        "one projection": joined.view(2, 5, 3, 2, 2).permute(2, 0, 3, 1, 4).unbind(0),
        "separate": [each.exp().view(2, 5, 2, 2).transpose(1, 2) for each in joined.chunk(3, -1)],
        "one tensor": [joined.view(2, 5, 3, 4).transpose(1, 2)] * 3,
        "expanded": [joined[:, None, :, :4].expand(-1, 3, -1, -1), *joined[:, None, :, 4:].chunk(2, -1)],
        "overlapping": [joined[:, None, :, start : start + 6] for start in (0, 3, 6)],
    }[layout]
    sinks, gradients = Sinks(parts), [torch.randn(3, *each.shape, dtype=torch.float64) for each in parts]
    assert len(sinks.edges) == (1 if layout == "one projection" else 3)
    (found,) = pulled(sinks.filled(gradients), [x])
    for target in range(3):
        (want,) = torch.autograd.grad(parts, x, [each[target] for each in gradients], retain_graph=True)
        torch.testing.assert_close(found[target], want, rtol=1e-12, atol=1e-14)


def test_values_that_are_changed_after_their_attention_are_refused() -> None:
    q, k, v = (each.exp() for each in leaves_of(*problem(4, 1, 1, 1, 3, 2, 2, 1)[:3]))
    crossing = FusedAttention(AttentionCall.of(q, k, v))
    v.add_(1)
    with pytest.raises(UnsupportedModelError, match="changes its queries, keys or values in place"):
        crossing.back(torch.ones(1, 1, 1, 3, 2), None, True)


@settings(max_examples=50, deadline=None)
@given(
    heads=st.integers(1, 8), n=st.integers(1, 150), targets=st.integers(1, 6), numbers=st.integers(1, 4000),
    is_causal=st.booleans(), device=st.sampled_from(["cpu", "cuda"]),
)  # fmt: skip
def test_tiles_cover_every_row_of_every_head_once_within_the_budget(
    heads: int, n: int, targets: int, numbers: int, is_causal: bool, device: str
) -> None:
    first = numbers % n
    with mock.patch.dict(tiles._TILE_NUMBERS, cpu=numbers, other=numbers):
        cut = list(tiles.cut(heads, slice(first, n), n, targets, is_causal, torch.device(device)))
    covered = torch.zeros(heads, n)
    for head, rows in cut:
        covered[head, rows] += 1
        height = rows.stop - rows.start
        assert height == 1 or (head.stop - head.start) * height * n * targets <= numbers
    assert (covered[:, first:] == 1).all() and not covered[:, :first].any()


def test_groups_of_heads_in_one_tile_change_nothing() -> None:
    """Tiles as an accelerator cuts them."""
    tensors = problem(3, 2, 3, 2, 6, 4, 4, 3)
    cut = [(slice(h, h + 3), slice(s, s + 2)) for h in range(0, 12, 3) for s in range(0, 6, 2)]
    with mock.patch.object(tiles, "cut", lambda *args: cut):
        found = fused(*tensors, Flow(gradient_weighted))
    for got, want in zip(found, reference.layer_backward(*tensors, enable_gqa=True), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_products_are_accumulated_in_float32(dtype: torch.dtype) -> None:
    q, k, v, cotangents, rows = (each.to(dtype) for each in problem(5, 1, 2, 1, 64, 16, 16, 2))
    found = fused(q, k, v, cotangents, rows.float(), Flow(gradient_weighted))
    exact = reference.layer_backward(*(each.double() for each in (q, k, v, cotangents, rows)))
    assert found[0].dtype == dtype and found[3].dtype == torch.float32
    torch.testing.assert_close(found[3].double(), exact[3], rtol=1e-5, atol=1e-6)


def test_an_extra_key_that_the_output_depends_on_is_no_sink() -> None:
    ledger = Ledger()
    crossing = ExplicitAttention(torch.rand(1, 2, 3, 4), ledger, BLOCK)
    crossing.back(torch.ones(1, 1, 2, 3, 4), Passing(gradient_weighted, torch.ones(1, 1, 3)), True)
    with pytest.raises(UnsupportedModelError, match=f"block {BLOCK} attends to keys beside its tokens"):
        ledger.check_backward()


@pytest.mark.parametrize("layout", ["one projection", "three", "heads apart", "after a norm"])
def test_the_last_block_goes_past_the_projections(layout: str) -> None:
    """Of one row a target, what linear layers put out as it is takes no gradient of its own; the result is the same."""
    torch.manual_seed(1)
    x = torch.randn(2, 5, 6, dtype=torch.float64, requires_grad=True)
    projections = Projections()

    def linear(weight: Tensor, bias: Tensor) -> Tensor:
        result = torch.nn.functional.linear(x, weight, bias)
        projections.called(torch.nn.functional.linear, (x, weight), {"bias": bias}, result)
        return result

    weights = torch.randn(3, 8, 6, dtype=torch.float64), torch.randn(3, 8, dtype=torch.float64)
    if layout == "one projection":
        parts = linear(*(each.flatten(0, 1) for each in weights)).view(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4).unbind(0)
    elif layout == "heads apart":  # the channels of a head lie next to those of the other
        parts = [linear(w, b).view(2, 5, 4, 2).permute(0, 3, 1, 2) for w, b in zip(*weights, strict=True)]
    else:
        parts = [linear(w, b).view(2, 5, 2, 4).transpose(1, 2) for w, b in zip(*weights, strict=True)]
    if layout == "after a norm":
        parts = [*(each / each.norm(dim=-1, keepdim=True) for each in parts[:2]), parts[2]]
    call, rows = AttentionCall.of(*parts), torch.rand(3, 2, 5, dtype=torch.float64)
    gradient = RowGradient(torch.randn(3, 2, 2, 4, dtype=torch.float64), torch.randint(5, (3, 2)))
    assert [projections.of(each) is not None for each in parts] == [layout != "after a norm"] * 2 + [True]
    for options in ({}, {"constant": True}, {"shares": (0.25, 0.25, 0.5)}):
        past, plain = FusedAttention(call, projections, **options), FusedAttention(call, **options)
        passing = None if options else Passing(gradient_weighted, rows)
        found, added = past.back_by_row(gradient, passing)
        whole, of_plain, _ = (*plain.back(gradient.whole(5), passing, True), None)
        torch.testing.assert_close(pulled(found, [x])[0], pulled(whole, [x])[0], rtol=1e-11, atol=1e-13)
        dense, _ = past.back(gradient.whole(5), passing, True)
        torch.testing.assert_close(pulled(dense, [x])[0], pulled(whole, [x])[0], rtol=1e-11, atol=1e-13)
        if added is not None and of_plain is not None:
            torch.testing.assert_close(added, of_plain, rtol=1e-11, atol=1e-13)
