"""ULTra with the product over the blocks left out: what the last block passed tells alone."""

from __future__ import annotations

import torch
from torch import Tensor

from captum_ultra.attr.scores import Score, as_score
from captum_ultra.models.vit import Block

__all__ = ["last_block_rows"]


def last_block_rows(block: Block, tokens: Tensor, score: Score) -> Tensor:
    """mean_h relu(df/dA_h * A_h) of one block for every token that leaves it: [N, N].

    A token reads its own row of the block's attention only, so one backward pass gives the rows of all tokens.

    Args:
        block: the last one passed.
        tokens: [N, d], what enters it.
        score: as in :meth:`captum_ultra.LatentTokenAttribution.attribute`, of the normalised latents.

    Example:
        >>> last_block_rows(Block(16, heads=2, mlp_ratio=2.0), torch.randn(5, 16), "energy").shape
        torch.Size([5, 5])
    """
    tokens = tokens.detach()[None]
    with torch.no_grad():
        q, k, v = block.attn.project(block.norm1(tokens))
        attention = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    with torch.enable_grad():
        attention.requires_grad_()
        x = tokens + block.attn.proj((attention @ v).transpose(1, 2).reshape(tokens.shape))
        scores = as_score(score)(x + block.mlp(block.norm2(x)))
        (gradient,) = torch.autograd.grad(scores.sum(), attention)
    return (gradient * attention.detach()).relu()[0].mean(0)
