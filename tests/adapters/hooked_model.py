"""A small decoder with the hook points of HookedTransformer, for versions that no longer have that class."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformer_lens import HookedRootModule
from transformer_lens.hook_points import HookPoint

from tests.builders.case import stir


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        shape = (heads, dim, dim // heads)
        self.W_Q, self.W_K, self.W_V = (nn.Parameter(torch.empty(shape)) for _ in range(3))
        self.W_O = nn.Parameter(torch.empty(heads, dim // heads, dim))
        self.hook_q, self.hook_k, self.hook_v, self.hook_attn_scores = (HookPoint() for _ in range(4))
        self.hook_pattern, self.hook_z, self.hook_result = (HookPoint() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        q = self.hook_q(torch.einsum("bnd,hde->bnhe", x, self.W_Q))
        k = self.hook_k(torch.einsum("bnd,hde->bnhe", x, self.W_K))
        v = self.hook_v(torch.einsum("bnd,hde->bnhe", x, self.W_V))
        scores = torch.einsum("bnhe,bmhe->bhnm", q, k) / q.shape[-1] ** 0.5
        future = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        scores = self.hook_attn_scores(scores.masked_fill(future, -torch.inf))
        pattern = self.hook_pattern(F.softmax(scores, dim=-1))
        z = self.hook_z(torch.einsum("bhnm,bmhe->bnhe", pattern, v))
        return self.hook_result(torch.einsum("bnhe,hed->bnhd", z, self.W_O)).sum(2)


class Block(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.ln1, self.ln2, self.attn = nn.LayerNorm(dim), nn.LayerNorm(dim), Attention(dim, heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.hook_resid_pre, self.hook_resid_mid, self.hook_resid_post = (HookPoint() for _ in range(3))
        self.hook_attn_out, self.hook_mlp_out = HookPoint(), HookPoint()

    def forward(self, x: Tensor) -> Tensor:
        x = self.hook_resid_pre(x)
        x = self.hook_resid_mid(x + self.hook_attn_out(self.attn(self.ln1(x))))
        return self.hook_resid_post(x + self.hook_mlp_out(self.mlp(self.ln2(x))))


class Hooked(HookedRootModule):
    """Token ids [B, n] to a residual stream [B, n, d]."""

    def __init__(self, dim: int = 16, heads: int = 4, depth: int = 3, words: int = 50) -> None:
        super().__init__()
        self.embed, self.hook_embed = nn.Embedding(words, dim), HookPoint()
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        self.setup()

    def forward(self, ids: Tensor, stop_at_layer: int | None = None) -> Tensor:
        x = self.hook_embed(self.embed(ids))
        for block in self.blocks[:stop_at_layer]:
            x = block(x)
        return x


def hooked(**sizes: int) -> Hooked:
    return stir(Hooked(**sizes)).eval()  # type: ignore[return-value]
