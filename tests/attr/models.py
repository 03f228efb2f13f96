"""Small plain transformers for tests of the interface; models of the libraries are tested elsewhere."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig
from tests.builders.case import stir


class Block(nn.Module):
    """A pre-norm block with its own attention module."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm2(x))


class Vit(nn.Module):
    """CLS and patches of 4 pixels; returns class logits."""

    def __init__(self, dim: int = 16, depth: int = 3, heads: int = 2, tokens: int = 17) -> None:
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 4, 4)
        self.cls = nn.Parameter(torch.randn(1, 1, dim))
        self.positions = nn.Parameter(torch.randn(1, tokens, dim) / 2)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.head = nn.Linear(dim, 5)

    def forward(self, x: Tensor, shift: Tensor | float = 0.0) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + shift
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(x[:, 0])


class Text(nn.Module):
    """Token ids to a residual stream."""

    def __init__(self, dim: int = 16, depth: int = 2, words: int = 11) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, dim)
        self.blocks = nn.ModuleList(Block(dim, 2) for _ in range(depth))

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for block in self.blocks:
            x = block(x)
        return x


def vit(seed: int = 0, **options: int) -> Vit:
    torch.manual_seed(seed)
    return Vit(**options).eval()


def text(seed: int = 0) -> Text:
    torch.manual_seed(seed)
    return Text().eval()


def small_classifier(**sizes: Any) -> ViTClassifier:
    """The package's own classifier of images of 16 pixels, with 16 patches and six classes."""
    torch.manual_seed(0)
    model = ViTClassifier(ViTClassifierConfig(**{"image_size": 16, "dim": 32, "depth": 3, "heads": 4, **sizes}))
    return stir(model).eval()  # type: ignore[return-value]


def images(batch: int = 2, seed: int = 1) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
