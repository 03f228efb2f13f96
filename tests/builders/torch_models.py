"""torchvision, torch's own encoder, and models that the tests write themselves."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.builders.case import CHANNELS, DEPTH, HEADS, VOCABULARY, Case


def torchvision_vit() -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(
        image_size=32, patch_size=8, num_layers=DEPTH, num_heads=HEADS, hidden_dim=CHANNELS, mlp_dim=64, num_classes=5
    )


def torch_encoder(norm_first: bool, batch_first: bool = True) -> nn.Module:
    layer = nn.TransformerEncoderLayer(
        CHANNELS, HEADS, dim_feedforward=64, norm_first=norm_first, batch_first=batch_first
    )
    return nn.TransformerEncoder(layer, DEPTH, enable_nested_tensor=False)


class PlainBlock(nn.Module):
    """A pre-norm block whose attention is fused, or softmax(q k) v spelt out."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.first_norm, self.second_norm = nn.LayerNorm(CHANNELS), nn.LayerNorm(CHANNELS)
        self.qkv, self.out = nn.Linear(CHANNELS, 3 * CHANNELS), nn.Linear(CHANNELS, CHANNELS)
        self.mlp = nn.Sequential(nn.Linear(CHANNELS, 64), nn.GELU(), nn.Linear(64, CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(self.first_norm(x)).view(b, n, 3, HEADS, -1).permute(2, 0, 3, 1, 4)
        if self.fused:
            mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            future = torch.ones(n, n, dtype=torch.bool).triu(1)
            scores = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).masked_fill(future, -torch.inf)
            mixed = scores.softmax(dim=-1) @ v
        x = x + self.out(mixed.transpose(1, 2).reshape(b, n, -1))
        return x + self.mlp(self.second_norm(x))


class PlainTransformer(nn.Module):
    """A little causal language model that no library knows."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, CHANNELS)
        self.steps = nn.ModuleList([PlainBlock(fused) for _ in range(DEPTH)])
        self.head = nn.Linear(CHANNELS, VOCABULARY)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embed(ids)
        for step in self.steps:
            x = step(x)
        return self.head(x)


_SEQUENCE = {"shape": (2, 9, CHANNELS), "blocks": "layers", "tokens": 9}

CASES = [
    Case("torchvision-vit", torchvision_vit, (2, 3, 32, 32), "encoder.layers", tokens=17, prefix=1, grid=(4, 4)),
    Case("torch-encoder-prenorm", lambda: torch_encoder(True), **_SEQUENCE),
    Case("torch-encoder-postnorm", lambda: torch_encoder(False), **_SEQUENCE),
    Case(
        "torch-encoder-prenorm-sequence-first", lambda: torch_encoder(True, batch_first=False),
        (9, 2, CHANNELS), "layers", tokens=9, batch_first=False,
    ),
    Case("plain-fused", lambda: PlainTransformer(fused=True), (2, 9), "steps", tokens=9),
    Case("plain-softmax", lambda: PlainTransformer(fused=False), (2, 9), "steps", tokens=9),
]  # fmt: skip
