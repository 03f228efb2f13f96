"""The weights of a plain vision transformer, read out of the classes of three libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["Affine", "PlainBlock", "PlainViT", "read_deit", "read_hf", "read_open_clip", "read_timm"]


@dataclass
class Affine:
    """x -> x W^T + b; W is [out, in], b [out] or None."""

    weight: Tensor
    bias: Tensor | None = None

    def __call__(self, x: Tensor) -> Tensor:
        y = x @ self.weight.T
        return y if self.bias is None else y + self.bias


@dataclass
class PlainBlock:
    """x + o(attention(norm1 x)), then x + second(act(first(norm2 x))), each branch times a scale."""

    first_norm: nn.Module
    query: Affine
    key: Affine
    value: Affine
    out: Affine
    second_norm: nn.Module
    first: Affine
    second: Affine
    activation: Callable[[Tensor], Tensor] = F.gelu


@dataclass
class PlainViT:
    """An image classifier whose heads, averaged, read one prefix token each.

    Attributes:
        patches: [d, C, P, P], a convolution whose stride is its size.
        patch_bias: [d] or None.
        prefix: tokens before the patches [p, d].
        positions: [p + patches, d].
        heads: number of attention heads.
        blocks: of the encoder.
        before: norm before the blocks.
        norm: after them.
        classifiers: one for each of the first prefix tokens.
        after: applied to the classifier's output (tanh of a pooler), then ``logits`` if any.
    """

    patches: Tensor
    patch_bias: Tensor | None
    prefix: Tensor
    positions: Tensor
    heads: int
    blocks: list[PlainBlock]
    before: nn.Module
    norm: nn.Module
    classifiers: list[Affine]
    after: Callable[[Tensor], Tensor] = lambda logits: logits


def _affine(layer: Any) -> Affine:
    return Affine(layer.weight.detach(), None if layer.bias is None else layer.bias.detach())


def _thirds(weight: Tensor, bias: Tensor) -> list[Affine]:
    return [Affine(w.detach(), b.detach()) for w, b in zip(weight.chunk(3), bias.chunk(3), strict=True)]


def _timm_block(block: Any) -> PlainBlock:
    return PlainBlock(
        block.norm1, *_thirds(block.attn.qkv.weight, block.attn.qkv.bias), _affine(block.attn.proj), block.norm2,
        _affine(block.mlp.fc1), _affine(block.mlp.fc2),
    )  # fmt: skip


def read_timm(model: Any) -> PlainViT:
    """timm's VisionTransformer with a class token."""
    prefix = model.cls_token[0].detach()
    projection = model.patch_embed.proj
    return PlainViT(
        projection.weight.detach(), projection.bias.detach(), prefix, model.pos_embed[0].detach(),
        model.blocks[0].attn.num_heads, [_timm_block(block) for block in model.blocks], nn.Identity(), model.norm,
        [_affine(model.head)],
    )  # fmt: skip


def read_deit(model: Any) -> PlainViT:
    """timm's distilled DeiT: the mean of two heads on two tokens."""
    plain = read_timm(model)
    plain.prefix = torch.cat([plain.prefix, model.dist_token[0].detach()])
    plain.classifiers.append(_affine(model.head_dist))
    return plain


def _hf_block(block: Any) -> PlainBlock:
    attention = block.attention
    layers = (attention.q_proj, attention.k_proj, attention.v_proj, attention.o_proj)
    return PlainBlock(
        block.layernorm_before, *map(_affine, layers), block.layernorm_after, _affine(block.mlp.fc1),
        _affine(block.mlp.fc2),
    )  # fmt: skip


def read_hf(model: Any) -> PlainViT:
    """transformers' ViT or DeiT: with a classifier on the class token, or a pooler (linear, tanh)."""
    trunk = getattr(model, "vit", model)
    embeddings = trunk.embeddings
    projection = embeddings.patch_embeddings.projection
    prefix = [embeddings.cls_token[0].detach()]
    if hasattr(embeddings, "distillation_token"):
        prefix.append(embeddings.distillation_token[0].detach())
    pooled = not hasattr(model, "classifier")
    return PlainViT(
        projection.weight.detach(), projection.bias.detach(), torch.cat(prefix),
        embeddings.position_embeddings[0].detach(), model.config.num_attention_heads,
        [_hf_block(block) for block in trunk.layers], nn.Identity(), trunk.layernorm,
        [_affine(trunk.pooler.dense if pooled else model.classifier)],
        torch.tanh if pooled else lambda logits: logits,
    )  # fmt: skip


def _open_clip_block(block: Any) -> PlainBlock:
    attention = block.attn
    return PlainBlock(
        block.ln_1, *_thirds(attention.in_proj_weight, attention.in_proj_bias), _affine(attention.out_proj),
        block.ln_2, _affine(block.mlp.c_fc), _affine(block.mlp.c_proj), block.mlp.gelu,
    )  # fmt: skip


def read_open_clip(model: Any) -> PlainViT:
    """open_clip's vision tower; its embedding stands for the logits."""
    return PlainViT(
        model.conv1.weight.detach(), None, model.class_embedding[None].detach(),
        model.positional_embedding.detach(), model.transformer.resblocks[0].attn.num_heads,
        [_open_clip_block(block) for block in model.transformer.resblocks], model.ln_pre, model.ln_post,
        [Affine(model.proj.detach().T)],
    )  # fmt: skip
