"""The rule of fused attention against the rules of its matrix products, written out and by the eager form."""

from __future__ import annotations

from typing import Any
from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captum_ultra import LRP, PartialLRP
from captum_ultra.relevance import tiles
from captum_ultra.relevance.calls import AttentionCall
from captum_ultra.relevance.lrp import MapRelevance
from captum_ultra.relevance.lrp.attention import attention_shares, output_shares
from tests.builders import case_named
from tests.reference import lrp as reference
from tests.reference.recording import explicit_attention
from tests.relevance.lrp.propagate import input_relevance

KINDS = ["none", "boolean", "padding", "additive", "causal"]


def problem(seed: int, batch: int, groups: int, repeats: int, n: int, m: int, d: int, d_v: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    heads = groups * repeats
    shapes = [(batch, heads, n, d), (batch, groups, m, d), (batch, groups, m, d_v), (batch, heads, n, d_v)]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]


def mask_of(kind: str, seed: int, batch: int, heads: int, n: int, m: int) -> Tensor | None:
    generator = torch.Generator().manual_seed(seed)
    allowed = torch.rand(batch, 1, n, m, generator=generator) > 0.4
    if kind == "boolean":  # a row that may attend to nothing as well
        allowed[0, 0, 0] = False
        return allowed
    if kind == "padding":
        return torch.arange(m).expand(batch, 1, 1, m) < m - m // 3
    if kind == "additive":
        bias = torch.randn(1, heads, n, m, generator=generator, dtype=torch.float64)
        return bias.masked_fill(~allowed[:1], -torch.inf)
    return None


def written_out(
    q: Tensor, k: Tensor, v: Tensor, relevance: Tensor, learned_query: bool, **options: object
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Relevance of q, k, v and of the maps, one head at a time."""
    _, maps = explicit_attention(q, k, v, enable_gqa=True, **options)  # type: ignore[arg-type]
    of_q, of_k, of_v, of_maps = (torch.zeros_like(each) for each in (q, k, v, maps))
    repeats = q.shape[1] // k.shape[1]
    for b in range(len(q)):
        for h in range(q.shape[1]):
            of_maps[b, h], found = reference.product(maps[b, h], v[b, h // repeats], relevance[b, h])
            of_v[b, h // repeats] += found
            if learned_query:
                for i in range(q.shape[2]):  # a linear layer with weights q_i, on every key
                    for j in range(k.shape[2]):
                        shares = reference.linear(q[b, h, i][None], k[b, h // repeats, j], of_maps[b, h, i, j][None])
                        of_k[b, h // repeats, j] += shares
            else:
                of_q[b, h], found = reference.product(q[b, h], k[b, h // repeats].T, of_maps[b, h])
                of_k[b, h // repeats] += found.T
    return of_q, of_k, of_v, of_maps


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**16), batch=st.integers(1, 2), groups=st.integers(1, 2), repeats=st.integers(1, 2),
    n=st.integers(1, 6), m=st.integers(1, 6), d=st.integers(1, 4), d_v=st.integers(1, 4),
    kind=st.sampled_from(KINDS), tile=st.sampled_from([1, 7, 2**20]), learned_query=st.booleans(),
    scale=st.sampled_from([0.3, 1.0]),
)  # fmt: skip
def test_equals_the_rules_of_its_products(
    seed: int, batch: int, groups: int, repeats: int, n: int, m: int, d: int, d_v: int, kind: str, tile: int,
    learned_query: bool, scale: float,
) -> None:  # fmt: skip
    m = n if kind == "causal" else m
    q, k, v, relevance = problem(seed, batch, groups, repeats, n, m, d, d_v)
    mask = mask_of(kind, seed, batch, groups * repeats, n, m)
    call = AttentionCall(q, k, v, mask, is_causal=kind == "causal", scale=scale)
    with mock.patch.dict(tiles._TILE_NUMBERS, cpu=tile):
        share = output_shares(relevance, call)
        found = attention_shares(share, call, learned_query)
    options = {"attn_mask": mask, "is_causal": kind == "causal", "scale": scale}
    *expected, of_maps = written_out(q, k, v, relevance, learned_query, **options)
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-9)
    record = MapRelevance(share, v, call)
    rows = torch.stack([record.row(row) for row in range(n)], dim=2)
    torch.testing.assert_close(rows, of_maps, rtol=1e-7, atol=1e-10)


def test_parts_of_a_map_are_those_of_the_whole() -> None:
    *tensors, relevance = problem(1, 2, 2, 2, 5, 5, 3, 4)
    call = AttentionCall(*tensors, scale=0.5)
    record = MapRelevance(output_shares(relevance, call), tensors[2], call)
    whole = record.quotient(slice(0, 8), slice(0, 5), slice(0, 5))
    part = record.quotient(slice(3, 7), slice(1, 4), slice(2, 5))
    torch.testing.assert_close(part, whole[3:7, 1:4, 2:5])


def explained(model: Any, inputs: Tensor, mask: Tensor | None = None) -> list[Tensor]:
    """By LRP, and by the maps of a block in the middle and the last."""

    def head(output: Any) -> Tensor:
        output = getattr(output, "last_hidden_state", output)
        return output if output.dim() == 2 else output[:, -1]

    options: dict[str, Any] = {"output": "tokens", "additional_forward_args": mask}
    found = [LRP(model, head=head).attribute(inputs, target=2, **options)]
    return [*found, *(PartialLRP(model).attribute(inputs, token=3, layer=layer, **options) for layer in (2, 3))]


@pytest.mark.parametrize(("name", "padded"), [("plain-fused", False), ("timm-vit", False), ("hf-BertModel-sdpa", True)])
def test_fused_models_are_explained_like_those_with_a_softmax_of_their_own(name: str, padded: bool) -> None:
    case = case_named(name)
    inputs, mask = case.inputs(torch.float64), None
    fused: Any = case.model(torch.float64)
    if name == "timm-vit":
        eager: Any = case.model(torch.float64)
        for block in eager.blocks:
            block.attn.fused_attn = False
    else:
        eager = case_named(name.replace("fused", "softmax").replace("sdpa", "eager")).model(torch.float64)
    if padded:
        mask = torch.ones_like(inputs)
        mask[0, 5:] = 0
    one, other = explained(fused, inputs, mask), explained(eager, inputs, mask)
    for got, want in zip(one, other, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-9)
    if mask is not None:
        assert one[1][0, :5].any() and not one[1][0, 5:].any()


@pytest.mark.parametrize("need_weights", [False, True])
def test_multi_head_attention_is_seen_inside(need_weights: bool) -> None:
    """torch's function computes softmax and products itself where weights are asked for."""

    class Attend(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.attention = nn.MultiheadAttention(8, 2, batch_first=True)

        def forward(self, x: Tensor) -> Tensor:
            return self.attention(x, x, x, need_weights=need_weights)[0][:, 0]

    torch.manual_seed(0)
    model, x = Attend().double(), torch.randn(2, 5, 8, dtype=torch.float64)
    found = input_relevance(model, model, x, lambda output: output[:, 3])
    in_weight, out_weight = model.attention.in_proj_weight.detach(), model.attention.out_proj.weight.detach()
    with torch.no_grad():
        y = torch.nn.functional.linear(x, in_weight, model.attention.in_proj_bias)
    q, k, v = (part.unflatten(-1, (2, 4)).transpose(1, 2) for part in y.chunk(3, -1))
    mixed = explicit_attention(q, k, v)[0]
    of_mixed = torch.zeros(2, 5, 8, dtype=torch.float64)
    for b in range(2):
        seed = torch.zeros(8, dtype=torch.float64)
        seed[3] = 1
        of_mixed[b, 0] = reference.linear(out_weight, mixed[b, :, 0].flatten(), seed)
    parts = written_out(q, k, v, of_mixed.unflatten(-1, (2, 4)).transpose(1, 2), False)[:3]
    flat = torch.cat([part.transpose(1, 2).flatten(2) for part in parts], -1)
    expected = torch.stack(
        [torch.stack([reference.linear(in_weight, x[b, i], flat[b, i]) for i in range(5)]) for b in range(2)]
    )
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)
