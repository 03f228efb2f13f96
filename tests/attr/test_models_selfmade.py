"""The many ways in which people write attention themselves."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra import LRP, AttCAT, ConservativeLRP, LatentTokenAttribution, UnsupportedModelError
from tests.builders import Case, stir
from tests.builders.case import CHANNELS, HEADS
from tests.builders.torch_models import PlainBlock, PlainTransformer
from tests.reference.ultra import explain

Attention = Callable[[Tensor, Tensor, Tensor], Tensor]  # q, k, v [B, H, n, d] -> [B, H, n, d]


def scores_of(q: Tensor, k: Tensor) -> Tensor:
    return torch.einsum("bhid,bhjd->bhij", q, k) / math.sqrt(q.shape[-1])


def einsum_and_functional(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bhij,bhjd->bhid", F.softmax(scores_of(q, k), dim=-1), v)


def positive_dimension(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scores_of(q, k), 3) @ v


def module(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return nn.Softmax(dim=-1)(scores_of(q, k)) @ v


def special(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.special.softmax(scores_of(q, k), -1) @ v


def heads_in_the_batch(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Three axes, [B H, n, n], as older code has it."""
    probabilities = torch.bmm(q.flatten(0, 1), k.flatten(0, 1).transpose(1, 2)).softmax(-1)
    return torch.bmm(probabilities, v.flatten(0, 1)).view_as(q)


def softmax_in_float32(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(scores_of(q, k), dim=-1, dtype=torch.float32).to(q.dtype) @ v


def softcap(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (3 * torch.tanh(scores_of(q, k) / 3)).softmax(-1) @ v


def sink_column(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """One more column that takes attention and gives nothing."""
    scores = scores_of(q, k)
    return F.softmax(torch.cat([scores, torch.zeros_like(scores[..., :1])], -1), dim=-1)[..., :-1] @ v


def bias_by_distance(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    place = torch.arange(q.shape[2])
    bias = -(place[:, None] - place[None]).abs().to(q) * torch.tensor([0.1, 0.2, 0.4, 0.8]).to(q).view(-1, 1, 1)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, scale=0.2)


def shared_keys(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k[:, :2], v[:, :2], enable_gqa=True)


def wide_values(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Values wider than queries and keys."""
    return F.scaled_dot_product_attention(q[..., :3], k[..., :3], v)


WRITTEN = [
    einsum_and_functional, positive_dimension, module, special, heads_in_the_batch, softmax_in_float32, softcap,
    sink_column, bias_by_distance, shared_keys, wide_values,
]  # fmt: skip


class SelfMadeBlock(PlainBlock):
    def __init__(self, attention: Attention) -> None:
        super().__init__(fused=False)
        self.attention = attention

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(self.first_norm(x)).view(b, n, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        x = x + self.out(self.attention(q, k, v).transpose(1, 2).reshape(b, n, -1))
        return x + self.mlp(self.second_norm(x))


class TorchAttentionBlock(nn.Module):
    """nn.MultiheadAttention, which computes its own softmax when it is asked for the weights."""

    def __init__(self, need_weights: bool, **settings: bool) -> None:
        super().__init__()
        self.norm, self.need_weights = nn.LayerNorm(CHANNELS), need_weights
        self.attention = nn.MultiheadAttention(CHANNELS, HEADS, batch_first=True, **settings)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x)
        return x + self.attention(y, y, y, need_weights=self.need_weights)[0]


def transformer_of(block: Callable[[], nn.Module]) -> Callable[[], nn.Module]:
    def make() -> nn.Module:
        model = PlainTransformer(fused=False)
        model.steps = nn.ModuleList([block() for _ in range(3)])
        return model

    return make


def assert_equals_the_loop(block: Callable[[], nn.Module]) -> None:
    case = Case("selfmade", transformer_of(block), (2, 9), "steps", tokens=9)
    model, inputs = case.model(torch.float64), case.inputs()
    recording, lta = case.record(model, inputs), LatentTokenAttribution(model)
    for layer in (1, 3):
        rows = lta.attribute(inputs, token=[0, 4], layer=layer, score="sum", self_token="zero")
        expected = torch.stack([explain(recording, i, layer, self_token="zero") for i in (0, 4)], dim=1)
        torch.testing.assert_close(rows, expected, rtol=0, atol=1e-12 * expected.max().item())


@pytest.mark.parametrize("attention", WRITTEN, ids=lambda attention: attention.__name__)
def test_attention_written_by_hand(attention: Attention) -> None:
    assert_equals_the_loop(lambda: SelfMadeBlock(attention))


@pytest.mark.parametrize("need_weights", [True, False])
def test_multihead_attention_with_and_without_its_weights(need_weights: bool) -> None:
    assert_equals_the_loop(lambda: TorchAttentionBlock(need_weights))


@pytest.mark.parametrize("need_weights", [True, False])
def test_a_learned_key_is_refused(need_weights: bool) -> None:
    """It carries a value that comes from no token."""
    model = transformer_of(lambda: TorchAttentionBlock(need_weights, add_bias_kv=True))().eval()
    for attention in (block.attention for block in model.steps):
        nn.init.normal_(attention.bias_v)
    with pytest.raises(UnsupportedModelError, match=r"keys.*from elsewhere"):
        LatentTokenAttribution(model).attribute(torch.randint(3, 50, (2, 9)), token=4)


def test_an_added_key_of_zeros_is_a_sink() -> None:
    """Its value is zero, so that nothing of the output depends on it."""
    assert_equals_the_loop(lambda: TorchAttentionBlock(need_weights=True, add_zero_attn=True))


class ShiftingBlock(SelfMadeBlock):
    """First shifts the stream; in place, the very tensor that the block before it left."""

    def __init__(self, in_place: bool) -> None:
        super().__init__(module)
        self.in_place = in_place

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.add_(0.5) if self.in_place else x + 0.5)


@pytest.mark.parametrize("method", [LatentTokenAttribution, AttCAT, ConservativeLRP, LRP])
def test_a_stream_that_is_changed_in_place(method: Any) -> None:
    ids, options = torch.randint(3, 50, (2, 9)), {"token": [1, 4], "layer": [2, 0, 3, 1], "self_token": "keep"}
    models = [stir(transformer_of(lambda: ShiftingBlock(place))()).double().eval() for place in (True, False)]  # noqa: B023
    found, expected = (method(model).attribute(ids, **options) for model in models)
    for rows, want in zip(found, expected, strict=True):
        torch.testing.assert_close(rows, want, rtol=1e-12, atol=1e-12)


def exponentials(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = scores_of(q, k).exp()
    return weights / weights.sum(-1, keepdim=True) @ v


def over_queries(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return scores_of(q, k).softmax(-2) @ v


@pytest.mark.parametrize("attention", [exponentials, over_queries], ids=lambda attention: attention.__name__)
def test_attention_that_cannot_be_seen_is_refused(attention: Attention) -> None:
    model = transformer_of(lambda: SelfMadeBlock(attention))().eval()
    with pytest.raises(
        UnsupportedModelError, match=r"no softmax attention over all 9 tokens.*scaled_dot_product_attention"
    ):
        LatentTokenAttribution(model, blocks="steps").attribute(torch.randint(3, 50, (2, 9)))
