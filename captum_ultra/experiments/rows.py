"""Rows over the patches, one for every target token, by the simple means that ULTra is held against.

All are read from one run of the package's own ViT, whose attention is recomputed from the input of
every block's attention.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.models.vit import Block, VisionTransformer

__all__ = ["Record", "colour_rows", "cosine_rows", "position_rows", "raw_rows", "record", "rollout_rows"]


@dataclass(frozen=True)
class Record:
    """One run: ``latents[l]`` [N, d] after l blocks, ``attentions[b]`` [N, N] of block b, mean over heads."""

    latents: list[Tensor]
    attentions: list[Tensor]


@torch.no_grad()
def record(model: VisionTransformer, image: Tensor) -> Record:
    """Run the model on one normalised image [1, 3, H, W] and keep latents and attention."""
    latents: list[Tensor] = []
    attentions: list[Tensor] = []

    def before(block: Block, args: tuple[Tensor]) -> None:
        (tokens,) = args
        latents.append(tokens[0])
        q, k, _ = block.attn.project(block.norm1(tokens))
        attentions.append((q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)[0].mean(0))

    handles = [block.register_forward_pre_hook(before) for block in model.blocks]
    handles.append(model.norm.register_forward_pre_hook(lambda _, args: latents.append(args[0][0])))
    try:
        model(image)
    finally:
        for handle in handles:
            handle.remove()
    return Record(latents, attentions)


def raw_rows(run: Record, tokens: Tensor, layer: int) -> Tensor:
    """The attention of the block just passed, mean over heads: [T, N]."""
    return run.attentions[layer - 1][tokens]


def rollout_rows(run: Record, tokens: Tensor, layer: int) -> Tensor:
    """Attention rollout (Abnar and Zuidema, 2020, section 3): the product of row-normalised A + I: [T, N]."""
    rows = torch.eye(len(run.attentions[0]))[tokens]
    for attention in reversed(run.attentions[:layer]):
        rows = (rows + rows @ attention) / 2
    return rows


def cosine_rows(run: Record, tokens: Tensor, layer: int) -> Tensor:
    """The cosine of the target's latent with every latent of the same layer: [T, N]."""
    latents = F.normalize(run.latents[layer], dim=-1)
    return latents[tokens] @ latents.T


def colour_rows(image: Tensor, tokens: Tensor, patch: int) -> Tensor:
    """Minus the distance of mean patch colours, of an image [3, H, W]: [T, N]."""
    colours = F.avg_pool2d(image, patch).flatten(1).T
    return -torch.cdist(colours[tokens], colours)


def position_rows(tokens: Tensor, side: int) -> Tensor:
    """Minus the distance on a grid of side x side patches: what being near explains alone: [T, N]."""
    places = torch.cartesian_prod(torch.arange(side), torch.arange(side)).float()
    return -torch.cdist(places[tokens], places)
