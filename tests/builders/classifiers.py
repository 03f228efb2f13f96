"""Classifiers of the libraries, tiny, with random weights, and what the references need to know of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.builders import open_clip_models, timm_models, torch_models, transformers_models
from tests.builders.case import HEADS, Case
from tests.builders.transformers_models import _IMAGE, _TEXT

CLASSES = 5
PATCHES = tuple(range(16))


@dataclass(frozen=True)
class Classifier:
    """A case that gives one score a class.

    Attributes:
        case: how the model is built and run.
        logits: from the model and what it returned to class scores [B, K].
        tail: from the model and a stream [B, n, d] to class scores, by the model's own norm and head.
        readout: the tokens that the tail reads.
        parts: from the model, a block and the stream below it to E~ of every head [B, H, n, d], the stream between
            the sublayers and E~ of the feed-forward part; None for blocks that TokenTM refuses.
        head: of models without one of their own.
    """

    case: Case
    logits: Callable[[Any, Any], Tensor]
    tail: Callable[[Any, Tensor], Tensor]
    readout: tuple[int, ...] = (0,)
    parts: Callable[[Any, int, Tensor], tuple[Tensor, Tensor, Tensor]] | None = None
    head: Tensor | None = None

    @property
    def name(self) -> str:
        return self.case.name


def by_head(values: Tensor, weight: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """E~ [B, H, n, d] of values [B, n, H d_v] and an output projection [d, H d_v], head after head."""
    width = weight.shape[1] // HEADS
    parts = [slice(head * width, (head + 1) * width) for head in range(HEADS)]
    return torch.stack([values[..., part] @ weight[:, part].T * scale for part in parts], dim=1)


def attended(block_output_of_heads: Tensor, attention: Tensor) -> Tensor:
    return (attention @ block_output_of_heads).sum(1)


def _timm_parts(model: Any, index: int, stream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    block = model.blocks[index]
    scales = [getattr(getattr(block, name), "gamma", 1.0) for name in ("ls1", "ls2")]
    normed = block.norm1(stream)
    values = block.attn.qkv(normed)[..., 2 * stream.shape[-1] :]
    middle = stream + block.attn(normed) * scales[0]
    return by_head(values, block.attn.proj.weight, scales[0]), middle, block.mlp(block.norm2(middle)) * scales[1]


def _hf_parts(base: str) -> Callable[[Any, int, Tensor], tuple[Tensor, Tensor, Tensor]]:
    def parts(model: Any, index: int, stream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        block = model.get_submodule(base)[index]
        normed = block.layernorm_before(stream)
        middle = stream + block.attention(normed, None)[0]
        added = block.mlp(block.layernorm_after(middle))
        return by_head(block.attention.v_proj(normed), block.attention.o_proj.weight), middle, added

    return parts


def _open_clip_parts(model: Any, index: int, stream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    block = model.transformer.resblocks[index]
    normed = block.ln_1(stream)
    d = stream.shape[-1]
    values = F.linear(normed, block.attn.in_proj_weight[2 * d :], block.attn.in_proj_bias[2 * d :])
    middle = stream + block.attn(normed, normed, normed, need_weights=False)[0]
    return by_head(values, block.attn.out_proj.weight), middle, block.mlp(block.ln_2(middle))


def _torchvision_parts(model: Any, index: int, stream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    block = model.encoder.layers[index]
    normed = block.ln_1(stream)
    d, attention = stream.shape[-1], block.self_attention
    values = F.linear(normed, attention.in_proj_weight[2 * d :], attention.in_proj_bias[2 * d :])
    middle = stream + attention(normed, normed, normed, need_weights=False)[0]
    return by_head(values, attention.out_proj.weight), middle, block.mlp(block.ln_2(middle))


def _shipped_parts(model: Any, index: int, stream: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    block = model.blocks[index]
    normed = block.norm1(stream)
    values = block.attn.qkv(normed)[..., 2 * stream.shape[-1] :]
    middle = stream + block.attn(normed)
    return by_head(values, block.attn.proj.weight), middle, block.mlp(block.norm2(middle))


def _timm(
    label: str, name: str, prefix: int, readout: tuple[int, ...], parts: Any = _timm_parts, **more: Any
) -> Classifier:
    return Classifier(
        timm_models._case(label, name, prefix, **more), lambda model, output: output,
        lambda model, z: model.forward_head(model.norm(z)), readout, parts,
    )  # fmt: skip


def _hf(family: str, head: str, base: str, prefix: int, attention: str, pool: Any, parts: Any) -> Classifier:
    case = Case(
        f"hf-{family}{head}-{attention}",
        partial(transformers_models.build, family, head, attention, **_IMAGE, num_labels=CLASSES),
        (2, 3, 32, 32), base, tokens=prefix + 16, prefix=prefix, grid=(4, 4),
    )  # fmt: skip
    return Classifier(case, lambda model, output: output.logits, pool, (0,), parts)


def _bert(attention: str) -> Classifier:
    case = Case(
        f"hf-BertForSequenceClassification-{attention}",
        partial(transformers_models.build, "Bert", "ForSequenceClassification", attention, **_TEXT, num_labels=CLASSES),
        (2, 9), "bert.encoder.layer", tokens=9,
    )  # fmt: skip
    return Classifier(
        case, lambda model, output: output.logits, lambda model, z: model.classifier(model.bert.pooler(z)), (0,)
    )


def shipped() -> nn.Module:
    from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig

    return ViTClassifier(ViTClassifierConfig(image_size=16, dim=32, depth=3, heads=HEADS, classes=("a", "b", "c")))


TEXTS = torch.randn(CLASSES, 16, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def _zero_shot(embedding: Tensor) -> Tensor:
    classes = TEXTS.to(embedding)
    return F.normalize(embedding, dim=-1) @ F.normalize(classes, dim=-1).T


def _open_clip_tail(model: Any, z: Tensor) -> Tensor:
    return _zero_shot(model.ln_post(z)[:, 0] @ model.proj)


CLASSIFIERS = [
    _timm("classifier-vit", "vit_small_patch16_224", 1, (0,)),
    _timm("classifier-layerscale", "vit_small_patch16_224", 1, (0,), init_values=0.5),
    _timm("classifier-mean", "vit_small_patch16_224", 1, tuple(range(1, 17)), global_pool="avg", fc_norm=False),
    _timm("classifier-deit", "deit_small_patch16_224", 1, (0,)),
    _timm("classifier-distilled", "deit_small_distilled_patch16_224", 2, (0, 1)),
    *(
        _hf("ViT", "ForImageClassification", "vit.layers", 1, attention,
            lambda model, z: model.classifier(model.vit.layernorm(z)[:, 0]), parts)
        for attention, parts in (("sdpa", _hf_parts("vit.layers")), ("eager", None))
    ),
    _hf("DeiT", "ForImageClassification", "deit.layers", 2, "sdpa",
        lambda model, z: model.classifier(model.deit.layernorm(z)[:, 0]), _hf_parts("deit.layers")),
    _bert("sdpa"),
    _bert("eager"),
    Classifier(
        Case("open_clip-classifier-tower", lambda: open_clip_models.clip().visual, blocks="transformer.resblocks",
             **open_clip_models._IMAGE),
        lambda model, output: _zero_shot(output), _open_clip_tail, (0,), _open_clip_parts, TEXTS,
    ),
    Classifier(
        Case("torchvision-classifier", torch_models.torchvision_vit, (2, 3, 32, 32), "encoder.layers", tokens=17,
             prefix=1, grid=(4, 4)),
        lambda model, output: output, lambda model, z: model.heads(model.encoder.ln(z)[:, 0]), (0,),
        _torchvision_parts,
    ),
    Classifier(
        Case("shipped-classifier", shipped, (2, 3, 16, 16), "blocks", tokens=17, prefix=1, grid=(4, 4)),
        lambda model, output: output, lambda model, z: model.head(model.norm(z)[:, 0]), (0,), _shipped_parts,
    ),
]  # fmt: skip


def classifier_named(name: str) -> Classifier:
    return next(each for each in CLASSIFIERS if each.name == name)
