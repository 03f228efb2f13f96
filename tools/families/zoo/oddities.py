"""A plain block with one thing changed, each a shape that models have had."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, HEADS = 32, 4


class Attention(nn.Module):
    """Self-attention of [B, n, d]; ``oddity`` names what is changed."""

    def __init__(self, oddity: str = "") -> None:
        super().__init__()
        self.oddity = oddity
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mix = nn.Parameter(torch.empty(HEADS, HEADS))
        self.heads = nn.MultiheadAttention(WIDTH, HEADS, batch_first=oddity != "sequence first inside")
        self.convolution = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)

    def forward(self, x: Tensor, memory: Tensor | None = None, first: Tensor | None = None) -> Tensor:
        if self.oddity == "nn.MultiheadAttention":
            return self.heads(x, x, x, need_weights=False)[0]
        if self.oddity == "sequence first inside":
            y = x.transpose(0, 1)
            return self.heads(y, y, y, need_weights=False)[0].transpose(0, 1)
        source = {"memory": memory, "first latents": first}.get(self.oddity, x)
        if self.oddity == "keys in reverse":
            source = x.flip(1)
        if self.oddity == "convolved projections":
            source = self.convolution(x.transpose(1, 2)).transpose(1, 2)
        assert source is not None
        q, (k, v) = self.qkv(x)[..., :WIDTH], self.qkv(source)[..., WIDTH:].chunk(2, -1)
        if self.oddity == "one head":
            return self.out(F.scaled_dot_product_attention(q, k, v))
        q, k, v = (each.unflatten(-1, (HEADS, -1)).transpose(1, 2) for each in (q, k, v))
        mixed = ATTEND.get(self.oddity, _fused)(self, q, k, v)
        if self.oddity == "ends at the next token":
            mixed = mixed.roll(1, 2)
        mixed = mixed.transpose(1, 2).flatten(2)
        if self.oddity == "gate":
            mixed = mixed * x.sigmoid()
        return self.out(mixed)


def _probabilities(q: Tensor, k: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)


def _fused(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v)


def _talking(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.einsum("bhij,hg->bgij", _probabilities(q, k), block.mix) @ v


def _talking_before(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return torch.einsum("bhij,hg->bgij", scores, block.mix).softmax(-1) @ v


def _differential(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    maps = _probabilities(q, k)
    return (maps[:, ::2] - 0.4 * maps[:, 1::2]).repeat_interleave(2, 1) @ v


def _differential_fused(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v) - 0.4 * F.scaled_dot_product_attention(q.roll(1, 1), k.roll(1, 1), v)


def _differential_stacked(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Both maps in one fused call, as of twice the heads."""
    both = F.scaled_dot_product_attention(
        torch.cat([q, q.flip(1)], 1), torch.cat([k, k.roll(1, 1)], 1), v.repeat(1, 2, 1, 1)
    )
    return both[:, :HEADS] - 0.4 * both[:, HEADS:]


def _top(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    maps = _probabilities(q, k)
    kept = torch.zeros_like(maps).scatter(-1, (best := maps.topk(3)).indices, best.values)
    return kept / kept.sum(-1, keepdim=True) @ v


def _top_before(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return scores.masked_fill(scores < scores.topk(3).values[..., -1:], -torch.inf).softmax(-1) @ v


def _averaged(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """ConViT's blend: half of the map is by position alone."""
    n = q.shape[2]
    near = -(torch.arange(n)[:, None] - torch.arange(n)).abs().to(q)
    return (0.5 * _probabilities(q, k) + 0.5 * near.softmax(-1)) @ v


def _refined(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """A convolution over the map, as of an image."""
    return (
        F.conv2d(_probabilities(q, k), block.mix[:, :1, None, None].expand(-1, -1, 1, 3), padding=(0, 1), groups=HEADS)
        @ v
    )


def _sink(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    scores = q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5
    return torch.cat([scores, torch.ones_like(scores[..., :1])], -1).softmax(-1)[..., :-1] @ v


def _windows(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = (each.unflatten(2, (-1, 2)).transpose(1, 2).flatten(0, 1) for each in (q, k, v))
    mixed = F.scaled_dot_product_attention(q, k, v)
    return mixed.unflatten(0, (-1, 5)).transpose(1, 2).flatten(2, 3)


def _masked_windows(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    near = (torch.arange(q.shape[2])[:, None] - torch.arange(q.shape[2])).abs() < 3
    return F.scaled_dot_product_attention(q, k, v, attn_mask=near)


def _pooled_keys(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    k, v = (each.unflatten(2, (-1, 2)).mean(3) for each in (k, v))
    return F.scaled_dot_product_attention(q, k, v)


def _bias(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=q @ v.transpose(-2, -1))


def _channels(block: Attention, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return ((q.transpose(-2, -1) @ k).softmax(-1) @ v.transpose(-2, -1)).transpose(-2, -1)


ATTEND: dict[str, Callable[[Attention, Tensor, Tensor, Tensor], Tensor]] = {
    "softmax": lambda block, q, k, v: _probabilities(q, k) @ v,
    "talking heads after the softmax": _talking,
    "talking heads before the softmax": _talking_before,
    "differential attention": _differential,
    "differential attention, fused": _differential_fused,
    "differential attention, one fused call": _differential_stacked,
    "top-k after the softmax": _top,
    "top-k before the softmax": _top_before,
    "a map by position mixed in": _averaged,
    "convolution over the map": _refined,
    "sink": _sink,
    "windows": _windows,
    "windows by a mask": _masked_windows,
    "pooled keys": _pooled_keys,
    "sigmoid attention": lambda block, q, k, v: (q @ k.transpose(-2, -1) / 3).sigmoid() @ v / v.shape[2],
    "relu attention": lambda block, q, k, v: (q @ k.transpose(-2, -1) / 3).relu() @ v / v.shape[2],
    "linear attention": lambda block, q, k, v: q.softmax(-1) @ (k.softmax(-2).transpose(-2, -1) @ v),
    "values scaled by key": lambda block, q, k, v: (_probabilities(q, k) * k.norm(dim=-1)[:, :, None]) @ v,
    "einsum": lambda block, q, k, v: torch.einsum("bhij,bhjd->bhid", _probabilities(q, k), v),
    "bias of the latents": _bias,
    "channel attention": _channels,
}  # fmt: skip


class Block(nn.Module):
    """Pre-norm attention and MLP; ``oddity`` names what is changed, here or in the attention."""

    def __init__(self, oddity: str = "") -> None:
        super().__init__()
        self.oddity = oddity
        self.attention = Attention(oddity)
        self.norms = nn.ModuleList([nn.LayerNorm(WIDTH) for _ in range(3)])
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 48), nn.GELU(), nn.Linear(48, WIDTH))
        self.convolution = nn.Conv1d(WIDTH, WIDTH, 3, padding=1, groups=WIDTH)
        self.recurrent = nn.GRU(WIDTH, WIDTH, batch_first=True) if oddity == "recurrence" else nn.Identity()
        self.batch_norm = nn.BatchNorm1d(WIDTH)

    def forward(self, x: Tensor, memory: Tensor | None = None, first: Tensor | None = None) -> Any:
        if self.oddity == "post-norm":
            x = self.norms[0](x + self.attention(x))
            return self.norms[1](x + self.mlp(x))
        if self.oddity == "parallel":
            return x + self.attention(self.norms[0](x)) + self.mlp(self.norms[1](x))
        if self.oddity == "residual in place":
            x += self.attention(self.norms[0](x))
            x += self.mlp(self.norms[1](x))
            return x
        before = BESIDE.get(self.oddity, lambda block, each: each)(self, x)
        x = before + self.attention(self.norms[0](before), memory, first)
        if self.oddity == "takes the first latents":
            assert first is not None
            x = x + 0.5 * first
        x = x + self.mlp(self.norms[1](x))
        return (x, None) if self.oddity == "returns a tuple" else x


def _convolved(block: Block, x: Tensor) -> Tensor:
    return x + block.convolution(x.transpose(1, 2)).transpose(1, 2)


BESIDE: dict[str, Callable[[Block, Tensor], Tensor]] = {
    "depthwise convolution": _convolved,
    "token shift": lambda block, x: x + 0.5 * F.pad(x, (0, 0, 1, -1)),
    "recurrence": lambda block, x: x + block.recurrent(x)[0],
    "mean of the tokens": lambda block, x: x + x.mean(1, keepdim=True),
    "gate by the mean of the tokens": lambda block, x: x * x.mean(1, keepdim=True).sigmoid(),
    "norm over tokens": lambda block, x: (x - x.mean(1, keepdim=True)) / (x.std(1, keepdim=True) + 1),
    "Fourier transform": lambda block, x: x + torch.fft.fft(x, dim=1).real,
    "token MLP": lambda block, x: x + x.cumsum(1) * 0.1,
    "batch norm": lambda block, x: block.batch_norm(x.transpose(1, 2)).transpose(1, 2),
}
