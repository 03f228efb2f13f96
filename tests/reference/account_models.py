"""Transformers as explicit weights, read out of the classes of the libraries: what an account is taken of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.builders import Case, case_named
from tests.builders.classifiers import CLASSIFIERS, classifier_named
from tests.reference.lrp_models import Affine, Block, _affine, _thirds, read

__all__ = ["ACTIVATIONS", "NETWORKS", "Affine", "Layer", "Network", "Norm", "Rotary", "case_of", "exact"]

Rotary = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass
class Norm:
    """One token [d] -> its matrix times it, plus bias.

    Attributes:
        kind: "layer", "rms" or "none", the identity.
        weight: [d].
        bias: [d] or None.
        eps: added to the mean square.
    """

    kind: str
    weight: Tensor
    bias: Tensor | None = None
    eps: float = 0.0

    def matrix(self, token: Tensor) -> Tensor:
        """The [d, d] that norms this token: diag(weight) C / s, C the centring of a LayerNorm, s the scale."""
        d = len(token)
        centring = torch.eye(d, dtype=token.dtype)
        if self.kind == "none":
            return centring
        if self.kind == "layer":
            centring = centring - torch.full((d, d), 1 / d, dtype=token.dtype)
        scale = math.sqrt((centring @ token).square().mean().item() + self.eps)
        return torch.diag(self.weight) @ centring / scale

    def __call__(self, x: Tensor) -> Tensor:
        y = torch.stack([self.matrix(token) @ token for token in x])
        return y if self.bias is None else y + self.bias


@dataclass
class Layer:
    """One block.

    Attributes:
        order: "pre" is h = x + attn(n1(x)), y = h + mlp(n2(h)); "post" is h = n1(x + attn(x)), y = n2(h + mlp(h));
            "parallel" is y = x + (attn(n1(x)) + mlp(n2(x))).
        heads: of queries.
        groups: heads of keys and values.
        norms: n1 and n2.
        query, key, value, out: projections of attention.
        up, down: mlp(x) = down(act(up(x))).
        gate: with it, mlp(x) = down(act(gate(x)) * up(x)).
        activation: a key of ``ACTIVATIONS``.
        rotary: queries [heads, n, c] and keys [groups, n, c] to themselves, linearly, position by position.
        causal: whether tokens see those before them only.
        scales: of the two branches, [d] or numbers.
    """

    order: str
    heads: int
    groups: int
    norms: tuple[Norm, Norm]
    query: Affine
    key: Affine
    value: Affine
    out: Affine
    up: Affine
    down: Affine
    gate: Affine | None = None
    activation: str = "gelu"
    rotary: Rotary | None = None
    causal: bool = False
    scales: tuple[Tensor | float, Tensor | float] = (1.0, 1.0)


@dataclass
class Network:
    """Blocks one after the other, on a residual stream [n, d]."""

    layers: list[Layer]


def _normal(x: Tensor) -> tuple[Tensor, Tensor]:
    """Distribution function and density of the normal distribution."""
    return (1 + torch.erf(x / math.sqrt(2))) / 2, torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)


def _gelu_slope(x: Tensor) -> Tensor:
    cumulative, density = _normal(x)
    return cumulative + x * density


def _bent(x: Tensor) -> tuple[Tensor, Tensor]:
    """The tanh of the approximate GELU, and its derivative."""
    t = torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))
    return t, (1 - t * t) * math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)


def _gelu_new_slope(x: Tensor) -> Tensor:
    t, slope = _bent(x)
    return (1 + t) / 2 + x * slope / 2


def _swish_slope(x: Tensor, beta: float) -> Tensor:
    s = torch.sigmoid(beta * x)
    return s + beta * x * s * (1 - s)


ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "gelu": (lambda x: x * _normal(x)[0], _gelu_slope),
    "gelu_new": (lambda x: x * (1 + _bent(x)[0]) / 2, _gelu_new_slope),
    "silu": (lambda x: x * torch.sigmoid(x), partial(_swish_slope, beta=1.0)),
    "quick_gelu": (lambda x: x * torch.sigmoid(1.702 * x), partial(_swish_slope, beta=1.702)),
    "relu": (lambda x: x.clamp(min=0), lambda x: (x > 0).to(x)),
}
"""Name -> the function and its derivative."""


def case_of(name: str) -> Case:
    """What builds and runs the model of one of ``NETWORKS``."""
    return next((each.case for each in CLASSIFIERS if each.name == name), None) or case_named(name)


@contextmanager
def exact() -> Iterator[None]:
    """Within, Llama's norm works in the precision of its input; the library has it in float32 always."""
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    def forward(norm: Any, x: Tensor) -> Tensor:
        return norm.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon)

    with mock.patch.object(LlamaRMSNorm, "forward", forward):
        yield


def _norm(layer: Any) -> Norm:
    if isinstance(layer, nn.LayerNorm):
        return Norm("layer", layer.weight.detach(), layer.bias.detach(), layer.eps)
    return Norm("rms", layer.weight.detach(), None, layer.variance_epsilon)


def _norms(*layers: Any) -> tuple[Norm, Norm]:
    first, second = map(_norm, layers)
    return first, second


def _pieces(layer: Any, rows: list[Tensor]) -> list[Affine]:
    """Some output channels each of an affine layer."""
    whole = _affine(layer)
    return [Affine(whole.weight[r], None if whole.bias is None else whole.bias[r]) for r in rows]


def _of_block(block: Block, heads: int) -> Layer:
    exact_gelu = isinstance(block.activation, nn.GELU) and block.activation.approximate == "none"
    assert block.activation is F.gelu or exact_gelu
    return Layer(
        "post" if block.post_norm else "pre", heads, heads, _norms(block.first_norm, block.second_norm),
        block.query, block.key, block.value, block.out, block.first, block.second, scales=block.scales,
    )  # fmt: skip


def _classifier(name: str, model: Any) -> Network:
    encoder = read(classifier_named(name), model)
    return Network([_of_block(block, encoder.heads) for block in encoder.blocks])


def _rotary(embedding: Any, apply: Callable[..., tuple[Tensor, Tensor]]) -> Rotary:
    """The library's own cosines and sines, which come out of float32."""

    def rotary(q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        q, k = apply(q[None], k[None], *embedding(q, torch.arange(q.shape[1])[None]))
        return q[0], k[0]

    return rotary


def _llama(model: Any) -> Network:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    config, rotary, layers = model.config, _rotary(model.model.rotary_emb, apply_rotary_pos_emb), []
    for block in model.model.layers:
        attention, mlp = block.self_attn, block.mlp
        layers.append(Layer(
            "pre", config.num_attention_heads, config.num_key_value_heads,
            _norms(block.input_layernorm, block.post_attention_layernorm),
            *map(_affine, (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)),
            *map(_affine, (mlp.up_proj, mlp.down_proj, mlp.gate_proj)), config.hidden_act, rotary, causal=True,
        ))  # fmt: skip
    return Network(layers)


def _gpt2(model: Any) -> Network:
    def transposed(layer: Any) -> Affine:
        return Affine(layer.weight.detach().T, layer.bias.detach())

    heads, activation = model.config.n_head, model.config.activation_function
    return Network([
        Layer(
            "pre", heads, heads, _norms(block.ln_1, block.ln_2),
            *_thirds(block.attn.c_attn.weight.T, block.attn.c_attn.bias), transposed(block.attn.c_proj),
            transposed(block.mlp.c_fc), transposed(block.mlp.c_proj), activation=activation, causal=True,
        )
        for block in model.transformer.h
    ])  # fmt: skip


def _gpt_neox(model: Any) -> Network:
    """Queries, keys and values lie side by side in every head."""
    from transformers.models.gpt_neox.modeling_gpt_neox import apply_rotary_pos_emb

    config, rotary = model.config, _rotary(model.gpt_neox.rotary_emb, apply_rotary_pos_emb)
    heads = config.num_attention_heads
    rows = torch.arange(3 * config.hidden_size).view(heads, 3, -1)
    return Network([
        Layer(
            "parallel", heads, heads, _norms(block.input_layernorm, block.post_attention_layernorm),
            *_pieces(block.attention.query_key_value, [rows[:, part].flatten() for part in range(3)]),
            *map(_affine, (block.attention.dense, block.mlp.dense_h_to_4h, block.mlp.dense_4h_to_h)),
            activation=config.hidden_act, rotary=rotary, causal=True,
        )
        for block in model.gpt_neox.layers
    ])  # fmt: skip


def _falcon(model: Any) -> Network:
    """One norm for both branches; one key and value head, after those of the queries."""
    from transformers.models.falcon.modeling_falcon import apply_rotary_pos_emb

    config, rotary, layers = model.config, _rotary(model.transformer.rotary_emb, apply_rotary_pos_emb), []
    heads, d = config.num_attention_heads, config.hidden_size
    rows = list(torch.arange(d + 2 * d // heads).split([d, d // heads, d // heads]))
    for block in model.transformer.h:
        attention, mlp = block.self_attention, block.mlp
        layers.append(Layer(
            "parallel", heads, 1, _norms(block.input_layernorm, block.input_layernorm),
            *_pieces(attention.query_key_value, rows),
            *map(_affine, (attention.dense, mlp.dense_h_to_4h, mlp.dense_4h_to_h)),
            activation=config.activation, rotary=rotary, causal=True,
        ))  # fmt: skip
    return Network(layers)


def _clip(model: Any) -> Network:
    heads, layers = model.config.num_attention_heads, []
    for block in model.encoder.layers:
        attention = block.self_attn
        layers.append(Layer(
            "pre", heads, heads, _norms(block.layer_norm1, block.layer_norm2),
            *map(_affine, (attention.q_proj, attention.k_proj, attention.v_proj, attention.out_proj)),
            *map(_affine, (block.mlp.fc1, block.mlp.fc2)), activation=model.config.hidden_act,
        ))  # fmt: skip
    return Network(layers)


def _torch(order: str, model: Any) -> Network:
    layers = []
    for block in model.layers:
        attention = block.self_attn
        layers.append(Layer(
            order, attention.num_heads, attention.num_heads, _norms(block.norm1, block.norm2),
            *_thirds(attention.in_proj_weight, attention.in_proj_bias),
            *map(_affine, (attention.out_proj, block.linear1, block.linear2)), activation="relu",
        ))  # fmt: skip
    return Network(layers)


# transformers computes the softmax of its eager ViT in float32: nothing to hold float64 against.
_ENCODERS = [each.name for each in CLASSIFIERS if each.name != "hf-ViTForImageClassification-eager"]

NETWORKS: dict[str, Callable[[Any], Network]] = {
    **{name: partial(_classifier, name) for name in _ENCODERS},
    "hf-LlamaForCausalLM-sdpa": _llama,
    "hf-GPT2LMHeadModel-sdpa": _gpt2,
    "hf-GPT2LMHeadModel-eager": _gpt2,
    "hf-GPTNeoXForCausalLM-sdpa": _gpt_neox,
    "hf-FalconForCausalLM-eager": _falcon,
    "hf-CLIPVisionModel-sdpa": _clip,
    "torch-encoder-prenorm": partial(_torch, "pre"),
    "torch-encoder-postnorm": partial(_torch, "post"),
}
"""Name of a case or a classifier -> what reads the network out of its model."""
