"""The weights of plain transformers, read out of the classes of the libraries: what relevance is followed through."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Affine", "Block", "Encoder", "Patches", "Reader", "read"]


@dataclass
class Affine:
    """x -> x W^T + b; W is [out, in], b [out] or None."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


@dataclass
class Block:
    """Attention and an MLP with residual connections, each branch times a scale; norms before or after them."""

    first_norm: nn.Module
    query: Affine
    key: Affine
    value: Affine
    out: Affine
    second_norm: nn.Module
    first: Affine
    second: Affine
    activation: Callable[[Tensor], Tensor] = F.gelu
    scales: tuple[Tensor | float, Tensor | float] = (1.0, 1.0)
    post_norm: bool = False


@dataclass
class Reader:
    """Class scores read off the mean of some tokens: affine layers with a function between them."""

    tokens: tuple[int, ...]
    layers: list[Affine]
    between: Callable[[Tensor], Tensor] = torch.tanh


@dataclass
class Patches:
    """What makes tokens of an image.

    Attributes:
        weight: [d, C, P, P], a convolution whose stride is its size.
        bias: [d] or None.
        prefix: tokens before the patches [p, d].
        positions: added to all tokens [p + patches, d].
        before: norm before the blocks.
    """

    weight: Tensor
    bias: Tensor | None
    prefix: Tensor
    positions: Tensor
    before: nn.Module = field(default_factory=nn.Identity)


@dataclass
class Encoder:
    """A classifier from its first block on; the scores are the mean of the readers'."""

    heads: int
    blocks: list[Block]
    norm: nn.Module
    readers: list[Reader]
    patches: Patches | None = None


def read(classifier: Any, model: Any) -> Encoder:
    """The weights of one of ``tests.builders.classifiers.CLASSIFIERS``."""
    for start, reader in _READERS.items():
        if classifier.name.startswith(start):
            return reader(classifier, model)
    raise AssertionError(f"no reader for {classifier.name}")


def _affine(layer: Any) -> Affine:
    return Affine(layer.weight.detach(), None if layer.bias is None else layer.bias.detach())


def _thirds(weight: Tensor, bias: Tensor) -> list[Affine]:
    return [Affine(w.detach(), b.detach()) for w, b in zip(weight.chunk(3), bias.chunk(3), strict=True)]


def _patches(projection: Any, prefix: list[Tensor], positions: Tensor, before: nn.Module | None = None) -> Patches:
    bias = None if projection.bias is None else projection.bias.detach()
    rows = torch.cat([each.detach().reshape(-1, positions.shape[-1]) for each in prefix])
    return Patches(projection.weight.detach(), bias, rows, positions.detach(), before or nn.Identity())


def _timm(classifier: Any, model: Any) -> Encoder:
    blocks = [
        Block(
            block.norm1, *_thirds(block.attn.qkv.weight, block.attn.qkv.bias), _affine(block.attn.proj), block.norm2,
            _affine(block.mlp.fc1), _affine(block.mlp.fc2),
            scales=tuple(getattr(scale, "gamma", torch.ones(())).detach() for scale in (block.ls1, block.ls2)),
        )
        for block in model.blocks
    ]  # fmt: skip
    readers, prefix = [Reader(classifier.readout, [_affine(model.head)])], [model.cls_token]
    if hasattr(model, "head_dist"):
        readers = [Reader((0,), [_affine(model.head)]), Reader((1,), [_affine(model.head_dist)])]
        prefix.append(model.dist_token)
    patches = _patches(model.patch_embed.proj, prefix, model.pos_embed[0])
    return Encoder(model.blocks[0].attn.num_heads, blocks, model.norm, readers, patches)


def _hf(classifier: Any, model: Any) -> Encoder:
    trunk = getattr(model, "vit", None) or model.deit
    blocks = [
        Block(
            block.layernorm_before,
            *map(_affine, (block.attention.q_proj, block.attention.k_proj, block.attention.v_proj)),
            _affine(block.attention.o_proj), block.layernorm_after, _affine(block.mlp.fc1), _affine(block.mlp.fc2),
        )
        for block in trunk.layers
    ]  # fmt: skip
    embeddings = trunk.embeddings
    prefix = [embeddings.cls_token, *([embeddings.distillation_token] if hasattr(model, "deit") else [])]
    patches = _patches(embeddings.patch_embeddings.projection, prefix, embeddings.position_embeddings[0])
    reader = Reader((0,), [_affine(model.classifier)])
    return Encoder(model.config.num_attention_heads, blocks, trunk.layernorm, [reader], patches)


def _bert(classifier: Any, model: Any) -> Encoder:
    blocks = []
    for layer in model.bert.encoder.layer:
        attention = layer.attention
        blocks.append(
            Block(
                attention.output.LayerNorm,
                *map(_affine, (attention.self.query, attention.self.key, attention.self.value)),
                _affine(attention.output.dense), layer.output.LayerNorm, _affine(layer.intermediate.dense),
                _affine(layer.output.dense), post_norm=True,
            )
        )  # fmt: skip
    reader = Reader((0,), [_affine(model.bert.pooler.dense), _affine(model.classifier)])
    return Encoder(model.config.num_attention_heads, blocks, nn.Identity(), [reader])


def _open_clip(classifier: Any, model: Any) -> Encoder:
    blocks = [
        Block(
            block.ln_1, *_thirds(block.attn.in_proj_weight, block.attn.in_proj_bias), _affine(block.attn.out_proj),
            block.ln_2, _affine(block.mlp.c_fc), _affine(block.mlp.c_proj), block.mlp.gelu,
        )
        for block in model.transformer.resblocks
    ]  # fmt: skip
    texts = F.normalize(classifier.head, dim=-1)
    reader = Reader((0,), [Affine(model.proj.detach().T), Affine(texts)], lambda x: x / x.norm())
    patches = _patches(model.conv1, [model.class_embedding], model.positional_embedding, model.ln_pre)
    return Encoder(model.transformer.resblocks[0].attn.num_heads, blocks, model.ln_post, [reader], patches)


def _torchvision(classifier: Any, model: Any) -> Encoder:
    blocks = [
        Block(
            block.ln_1, *_thirds(block.self_attention.in_proj_weight, block.self_attention.in_proj_bias),
            _affine(block.self_attention.out_proj), block.ln_2, _affine(block.mlp[0]), _affine(block.mlp[3]),
        )
        for block in model.encoder.layers
    ]  # fmt: skip
    patches = _patches(model.conv_proj, [model.class_token], model.encoder.pos_embedding[0])
    heads = model.encoder.layers[0].self_attention.num_heads
    return Encoder(heads, blocks, model.encoder.ln, [Reader((0,), [_affine(model.heads.head)])], patches)


def _shipped(classifier: Any, model: Any) -> Encoder:
    blocks = [
        Block(
            block.norm1, *_thirds(block.attn.qkv.weight, block.attn.qkv.bias), _affine(block.attn.proj), block.norm2,
            _affine(block.mlp[0]), _affine(block.mlp[2]),
        )
        for block in model.blocks
    ]  # fmt: skip
    of_patches = model.pos_embed.detach().reshape(-1, model.cls_token.shape[-1])
    positions = torch.cat([torch.zeros_like(of_patches[:1]), of_patches])
    patches = _patches(model.patch_embed, [model.cls_token], positions)
    reader = Reader((0,), [_affine(model.head)])
    return Encoder(model.blocks[0].attn.heads, blocks, model.norm, [reader], patches)


_READERS: dict[str, Callable[[Any, Any], Encoder]] = {
    "timm": _timm, "hf-ViT": _hf, "hf-DeiT": _hf, "hf-Bert": _bert, "open_clip": _open_clip,
    "torchvision": _torchvision, "shipped": _shipped,
}  # fmt: skip
