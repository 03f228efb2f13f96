"""Layer-wise relevance propagation written out: matrices of contributions, one sample, one output at a time.

Nothing here is differentiated. Every rule shares out relevance by an explicit table of what each input
contributes to each output; a whole vision transformer is run with all its tensors kept, and gone through
backwards by hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from tests.reference.lrp_models import PlainBlock, PlainViT

__all__ = ["Explained", "add", "bounded", "explain_vit", "forward_vit", "linear", "mapped", "product", "total"]

EPSILON = 1e-9


def table(contributions: Tensor, relevance: Tensor) -> Tensor:
    """Relevance of inputs [in] by their contributions [out, in] to outputs with relevance [out]."""
    sums = contributions.sum(1)
    found = torch.zeros(contributions.shape[1], dtype=contributions.dtype)
    for out in range(len(sums)):
        if sums[out] != 0:
            pushed = sums[out] + EPSILON * torch.sign(sums[out])
            found += contributions[out] * (relevance[out] / pushed)
    return found


def linear(weight: Tensor, x: Tensor, relevance: Tensor) -> Tensor:
    """Linear layer on one vector: the positive ones of the products w_oi x_i."""
    products = weight * x
    return table(products * (products > 0), relevance)


def bounded(weight: Tensor, x: Tensor, low: Tensor, high: Tensor, relevance: Tensor) -> Tensor:
    """The z^B rule on one vector: w x - low w+ - high w-."""
    return table(weight * x - low * weight.clamp(min=0) - high * weight.clamp(max=0), relevance)


def product(left: Tensor, right: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Matrix product [m, k] [k, n] of two signals: every term x_ik y_kj over its sum, half to each factor."""
    of_left, of_right = torch.zeros_like(left), torch.zeros_like(right)
    for i in range(left.shape[0]):
        for j in range(right.shape[1]):
            terms = left[i] * right[:, j]
            shares = table(terms[None], relevance[i, j][None])
            of_left[i] += shares / 2
            of_right[:, j] += shares / 2
    return of_left, of_right


def total(x: Tensor, relevance: Tensor) -> Tensor:
    """A sum over the entries of one vector: their shares of it."""
    return table(x[None], relevance[None])


def add(left: Tensor, right: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """A sum of two signals of one sample, of one shape: shares, then each scaled to |sum a| : |sum b|."""
    shares = [torch.zeros_like(relevance), torch.zeros_like(relevance)]
    for index in range(relevance.numel()):
        pair = torch.stack([left.flatten()[index], right.flatten()[index]])
        found = table(pair[None], relevance.flatten()[index][None])
        shares[0].view(-1)[index], shares[1].view(-1)[index] = found
    sums = [share.sum() for share in shares]
    size = sums[0].abs() + sums[1].abs()
    scaled = []
    for share, part in zip(shares, sums, strict=True):
        if part == 0 or size == 0:
            scaled.append(torch.zeros_like(share))
        else:
            wanted = part.abs() / (size + EPSILON) * relevance.sum()
            scaled.append(share * (wanted / (part + EPSILON * torch.sign(part))))
    return scaled[0], scaled[1]


@dataclass
class Explained:
    """What LRP gives for one image.

    Attributes:
        pixels: [C, H, W].
        streams: relevance [n, d] of what enters each block.
        maps: relevance R_A [H, n, n] of each block's attention map.
    """

    pixels: Tensor
    streams: list[Tensor]
    maps: list[Tensor]


@dataclass
class _BlockRun:
    x: Tensor
    normed: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    maps: Tensor
    mixed: Tensor
    branch: Tensor
    middle: Tensor
    second_normed: Tensor
    hidden: Tensor
    second_branch: Tensor


def _run_block(block: PlainBlock, x: Tensor, heads: int) -> tuple[_BlockRun, Tensor]:
    normed = block.first_norm(x)
    q, k, v = (
        part(normed).unflatten(-1, (heads, -1)).transpose(0, 1) for part in (block.query, block.key, block.value)
    )
    maps = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1)
    mixed = (maps @ v).transpose(0, 1).flatten(1)
    branch = block.out(mixed)
    middle = x + branch
    second_normed = block.second_norm(middle)
    hidden = block.activation(block.first(second_normed))
    second_branch = block.second(hidden)
    kept = _BlockRun(x, normed, q, k, v, maps, mixed, branch, middle, second_normed, hidden, second_branch)
    return kept, middle + second_branch


def _rows(weight: Tensor, x: Tensor, relevance: Tensor) -> Tensor:
    return torch.stack([linear(weight, x[i], relevance[i]) for i in range(len(x))])


def _block_back(block: PlainBlock, run: _BlockRun, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Relevance of a block's input [n, d] and of its maps [H, n, n]."""
    of_middle, of_branch = add(run.middle, run.second_branch, relevance)
    of_hidden = _rows(block.second.weight, run.hidden, of_branch)
    of_middle = of_middle + _rows(block.first.weight, run.second_normed, of_hidden)
    of_x, of_branch = add(run.x, run.branch, of_middle)
    of_mixed = _rows(block.out.weight, run.mixed, of_branch).unflatten(-1, (len(run.q), -1)).transpose(0, 1)
    of_maps, of_qkv = [], [[], [], []]
    for head in range(len(run.q)):
        of_map, of_v = product(run.maps[head], run.v[head], of_mixed[head])
        of_q, of_k = product(run.q[head], run.k[head].T, of_map)
        of_maps.append(of_map)
        for kept, found in zip(of_qkv, (of_q, of_k.T, of_v), strict=True):
            kept.append(found)
    for layer, found in zip((block.query, block.key, block.value), of_qkv, strict=True):
        of_x = of_x + _rows(layer.weight, run.normed, torch.cat(found, dim=-1))
    return of_x, torch.stack(of_maps)


def forward_vit(vit: PlainViT, image: Tensor) -> tuple[Tensor, list[_BlockRun], list[Tensor]]:
    """The output [K] for an image [C, H, W], the blocks' tensors, and what each classifier gave."""
    size = vit.patches.shape[-1]
    cut = image.unfold(1, size, size).unfold(2, size, size).permute(1, 2, 0, 3, 4).flatten(0, 1)
    tokens = cut.flatten(1) @ vit.patches.flatten(1).T
    tokens = tokens if vit.patch_bias is None else tokens + vit.patch_bias
    x = vit.before(torch.cat([vit.prefix, tokens]) + vit.positions)
    runs = []
    for block in vit.blocks:
        run, x = _run_block(block, x, vit.heads)
        runs.append(run)
    normed = vit.norm(x)
    scores = [classify(normed[index]) for index, classify in enumerate(vit.classifiers)]
    return vit.after(torch.stack(scores).mean(0)), runs, [normed, *scores]


@torch.no_grad()
def explain_vit(vit: PlainViT, image: Tensor, target: int) -> Explained:
    """LRP of one output for one image [C, H, W]."""
    _, runs, (normed, *scores) = forward_vit(vit, image)
    seed = torch.zeros_like(scores[0])
    seed[target] = 1
    seeds = add(*scores, seed) if len(scores) == 2 else (seed,)
    relevance = torch.zeros_like(normed)
    for index, (classify, part) in enumerate(zip(vit.classifiers, seeds, strict=True)):
        relevance[index] = linear(classify.weight, normed[index], part)
    streams, maps = [], []
    for block, run in zip(reversed(vit.blocks), reversed(runs), strict=True):
        relevance, of_maps = _block_back(block, run, relevance)
        streams.insert(0, relevance)
        maps.insert(0, of_maps)
    return Explained(_pixels(vit, image, relevance[len(vit.prefix) :]), streams, maps)


def _pixels(vit: PlainViT, image: Tensor, relevance: Tensor) -> Tensor:
    """Relevance of patch tokens [P, d] -> of pixels, one patch at a time."""
    size, found = vit.patches.shape[-1], torch.zeros_like(image)
    low, high = image.min(), image.max()
    columns = image.shape[2] // size
    for index in range(len(relevance)):
        top, left = index // columns * size, index % columns * size
        where = (slice(None), slice(top, top + size), slice(left, left + size))
        patch = image[where]
        shares = bounded(vit.patches.flatten(1), patch.flatten(), low, high, relevance[index])
        found[where] = shares.view_as(patch)
    return found


def mapped(vit: PlainViT, explained: Explained, block: int) -> Tensor:
    """Partial LRP: the class token's row of R_A, positive parts, averaged over heads [n]."""
    return explained.maps[block][:, 0].clamp(min=0).mean(0)
