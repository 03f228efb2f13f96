"""The rule of fused attention against the rules of its matrix products, written out and by the eager form."""

from __future__ import annotations

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captum_ultra.relevance import tiles
from captum_ultra.relevance.lrp import input_relevance, stream_relevance
from captum_ultra.relevance.lrp.attention import AttentionCall, attention_shares, output_shares
from captum_ultra.relevance.lrp.records import MapRelevance
from tests.builders import case_named
from tests.reference import lrp as reference
from tests.reference.recording import explicit_attention

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
    call = AttentionCall(mask, scale, kind == "causal", learned_query)
    with mock.patch.dict(tiles._TILE_NUMBERS, cpu=tile):
        share = output_shares(relevance, q, k, v, call)
        found = attention_shares(share, q, k, v, call)
    options = {"attn_mask": mask, "is_causal": kind == "causal", "scale": scale}
    *expected, of_maps = written_out(q, k, v, relevance, learned_query, **options)
    for got, want in zip(found, expected, strict=True):
        torch.testing.assert_close(got, want, rtol=1e-6, atol=1e-9)
    record = MapRelevance(share, v, q, k, call)
    rows = torch.stack([record.row(row) for row in range(n)], dim=2)
    torch.testing.assert_close(rows, of_maps, rtol=1e-7, atol=1e-10)


def test_halves_reach_values_and_scores() -> None:
    q, k, v, relevance = problem(0, 2, 3, 1, 5, 5, 4, 4)
    call = AttentionCall(None, 0.5)
    of_q, of_k, of_v = attention_shares(output_shares(relevance, q, k, v, call), q, k, v, call)
    for part, share in ((of_v, 1 / 2), (of_q, 1 / 4), (of_k, 1 / 4)):
        torch.testing.assert_close(part.sum(), relevance.sum() * share, rtol=1e-5, atol=1e-5)


def test_parts_of_a_map_are_those_of_the_whole() -> None:
    q, k, v, relevance = problem(1, 2, 2, 2, 5, 5, 3, 4)
    call = AttentionCall(None, 0.5)
    record = MapRelevance(output_shares(relevance, q, k, v, call), v, q, k, call)
    whole = record.quotient(slice(0, 8), slice(0, 5), slice(0, 5))
    part = record.quotient(slice(3, 7), slice(1, 4), slice(2, 5))
    torch.testing.assert_close(part, whole[3:7, 1:4, 2:5])


@pytest.mark.parametrize("names", [("plain-fused", "plain-softmax"), ("hf-BertModel-sdpa", "hf-BertModel-eager")])
def test_fused_models_are_explained_like_eager_ones(names: tuple[str, str]) -> None:
    found = []
    for name in names:
        case = case_named(name)
        model, inputs = case.model(torch.float64), case.inputs()
        blocks = list(model.get_submodule(case.blocks))

        def explained(output: object) -> Tensor:
            return getattr(output, "last_hidden_state", output)[:, -1, 2]

        found.append(stream_relevance(lambda: model(inputs), model, blocks, explained))  # noqa: B023
    fused, eager = found
    torch.testing.assert_close(fused.relevance, eager.relevance, rtol=1e-6, atol=1e-9)
    for block in fused.maps:
        for row in (0, 3):
            torch.testing.assert_close(fused.maps[block].row(row), eager.maps[block].row(row), rtol=1e-6, atol=1e-9)
        part = (slice(1, 3), slice(2, 5), slice(0, 4))
        torch.testing.assert_close(
            fused.maps[block].quotient(*part), eager.maps[block].quotient(*part), rtol=1e-6, atol=1e-9
        )


def test_padded_text_and_timms_own_softmax_are_explained_like_fused_attention() -> None:
    case = case_named("timm-vit")
    model, images = case.model(torch.float64), case.inputs(torch.float64)
    fused = input_relevance(model, model, images, lambda output: output[:, 1])
    for block in model.blocks:
        block.attn.fused_attn = False
    eager = input_relevance(model, model, images, lambda output: output[:, 1])
    torch.testing.assert_close(fused, eager, rtol=1e-6, atol=1e-9)
    found = []
    for name in ("hf-BertModel-sdpa", "hf-BertModel-eager"):
        case = case_named(name)
        model, ids = case.model(torch.float64), case.inputs()
        mask = torch.ones_like(ids)
        mask[0, 5:] = 0

        def run() -> object:
            return model(ids, attention_mask=mask)  # noqa: B023

        blocks = list(model.get_submodule(case.blocks))
        found.append(stream_relevance(run, model, blocks, lambda output: output.pooler_output[:, 1]))
    torch.testing.assert_close(found[0].relevance, found[1].relevance, rtol=1e-6, atol=1e-9)
    assert found[0].relevance[0, :5].any() and not found[0].relevance[0, 5:].any()
    torch.testing.assert_close(found[0].maps[1].row(2), found[1].maps[1].row(2), rtol=1e-6, atol=1e-9)


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
