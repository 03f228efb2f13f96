"""Layer-wise relevance propagation written out: matrices of contributions, one sample, one output at a time.

Nothing here is differentiated. Every rule shares out relevance by an explicit table of what each input
contributes to each output; a whole transformer is run with all its tensors kept, and gone through
backwards by hand, by one of two sets of rules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.reference.lrp_models import Affine, Block, Encoder, Patches, Reader

__all__ = [
    "CONSERVING", "PUBLISHED", "Explained", "Rules", "add", "add_plainly", "bounded", "embed", "explain",
    "explain_latent", "forward", "linear", "linear_apart", "partial_lrp", "product", "total",
    "transformer_attribution",
]  # fmt: skip

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


def linear_apart(weight: Tensor, x: Tensor, relevance: Tensor) -> Tensor:
    """The same, the products of positive numbers and those of negative numbers each with all of the relevance."""
    found = torch.zeros_like(x)
    for sign in (1, -1):
        alike = (sign * weight > 0) & (sign * x > 0)
        found = found + table(weight * x * alike, relevance)
    return found


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
    z = left + right
    pushed = torch.where(z == 0, torch.inf, z + EPSILON * torch.sign(z))
    shares = [left * relevance / pushed, right * relevance / pushed]
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


def add_plainly(left: Tensor, right: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """The shares of a sum as they are."""
    z = left + right
    pushed = torch.where(z == 0, torch.inf, z + EPSILON * torch.sign(z))
    return left * relevance / pushed, right * relevance / pushed


@dataclass(frozen=True)
class Rules:
    """What two of the operations do with relevance.

    Attributes:
        linear: (weight, x, relevance of the output) -> relevance of x.
        add: (x, y, relevance of their sum) -> relevance of x and of y.
        constants: whether what is added and depends on no input (positions) takes a share as well.
    """

    linear: Callable[[Tensor, Tensor, Tensor], Tensor]
    add: Callable[[Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
    constants: bool


CONSERVING, PUBLISHED = Rules(linear, add, False), Rules(linear_apart, add_plainly, True)


@dataclass
class Explained:
    """What LRP gives for one sample.

    Attributes:
        pixels: [C, H, W], None for text.
        streams: relevance [n, d] of what enters each block.
        maps: relevance R_A [H, n, n] of each block's attention map.
    """

    pixels: Tensor | None
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


def _run_block(block: Block, x: Tensor, heads: int) -> tuple[_BlockRun, Tensor]:
    normed = x if block.post_norm else block.first_norm(x)
    layers = (block.query, block.key, block.value)
    q, k, v = (layer(normed).unflatten(-1, (heads, -1)).transpose(0, 1) for layer in layers)
    maps = torch.softmax(q @ k.transpose(1, 2) / q.shape[-1] ** 0.5, -1)
    mixed = (maps @ v).transpose(0, 1).flatten(1)
    branch = block.out(mixed) * block.scales[0]
    middle = x + branch
    middle = block.first_norm(middle) if block.post_norm else middle
    second_normed = middle if block.post_norm else block.second_norm(middle)
    hidden = block.activation(block.first(second_normed))
    second_branch = block.second(hidden) * block.scales[1]
    output = middle + second_branch
    kept = _BlockRun(x, normed, q, k, v, maps, mixed, branch, middle, second_normed, hidden, second_branch)
    return kept, block.second_norm(output) if block.post_norm else output


def _block_back(block: Block, run: _BlockRun, relevance: Tensor, rules: Rules) -> tuple[Tensor, Tensor]:
    """Relevance of a block's input [n, d] and of its maps [H, n, n]."""

    def rows(weight: Tensor, x: Tensor, relevance: Tensor) -> Tensor:
        return torch.stack([rules.linear(weight, x[i], relevance[i]) for i in range(len(x))])

    of_middle, of_branch = rules.add(run.middle, run.second_branch, relevance)
    of_hidden = rows(block.second.weight, run.hidden, of_branch)
    of_middle = of_middle + rows(block.first.weight, run.second_normed, of_hidden)
    of_x, of_branch = rules.add(run.x, run.branch, of_middle)
    of_mixed = rows(block.out.weight, run.mixed, of_branch).unflatten(-1, (len(run.q), -1)).transpose(0, 1)
    of_maps, of_qkv = [], [[], [], []]
    for head in range(len(run.q)):
        of_map, of_v = product(run.maps[head], run.v[head], of_mixed[head])
        of_q, of_k = product(run.q[head], run.k[head].T, of_map)
        of_maps.append(of_map)
        for kept, found in zip(of_qkv, (of_q, of_k.T, of_v), strict=True):
            kept.append(found)
    for layer, found in zip((block.query, block.key, block.value), of_qkv, strict=True):
        of_x = of_x + rows(layer.weight, run.normed, torch.cat(found, dim=-1))
    return of_x, torch.stack(of_maps)


def _read(reader: Reader, normed: Tensor) -> list[Tensor]:
    """What goes into each layer of a reader, and its scores last."""
    kept = [normed[list(reader.tokens)].mean(0)]
    for index, layer in enumerate(reader.layers):
        x = layer(kept[-1])
        kept.append(x if index + 1 == len(reader.layers) else reader.between(x))
    return kept


def _read_back(reader: Reader, kept: list[Tensor], normed: Tensor, relevance: Tensor, rules: Rules) -> Tensor:
    """Relevance of scores [K] -> of tokens [n, d]."""
    for layer, x in zip(reversed(reader.layers), reversed(kept[:-1]), strict=True):
        relevance = rules.linear(layer.weight, x, relevance)
    found, tokens = torch.zeros_like(normed), list(reader.tokens)
    for channel in range(normed.shape[1]):
        found[tokens, channel] = total(normed[tokens, channel] / len(tokens), relevance[channel])
    return found


def embed(patches: Patches, image: Tensor) -> Tensor:
    """An image [C, H, W] as the tokens [n, d] that enter the first block."""
    return patches.before(_tokens(patches, image) + patches.positions)


def _tokens(patches: Patches, image: Tensor) -> Tensor:
    """Prefix and patches [n, d], before positions are added."""
    size = patches.weight.shape[-1]
    cut = image.unfold(1, size, size).unfold(2, size, size).permute(1, 2, 0, 3, 4).flatten(0, 1)
    return torch.cat([patches.prefix, Affine(patches.weight.flatten(1), patches.bias)(cut.flatten(1))])


def forward(encoder: Encoder, x: Tensor) -> tuple[Tensor, list[_BlockRun], Tensor, list[list[Tensor]]]:
    """Class scores [K] of the tokens [n, d] that enter the first block, and everything on the way."""
    runs = []
    for block in encoder.blocks:
        run, x = _run_block(block, x, encoder.heads)
        runs.append(run)
    normed = encoder.norm(x)
    read = [_read(reader, normed) for reader in encoder.readers]
    return torch.stack([kept[-1] for kept in read]).mean(0), runs, normed, read


@torch.no_grad()
def explain(encoder: Encoder, sample: Tensor, target: int, rules: Rules = CONSERVING) -> Explained:
    """LRP of one class score for an image [C, H, W], or for the tokens [n, d] that enter the first block."""
    x = sample if encoder.patches is None else embed(encoder.patches, sample)
    scores, runs, normed, read = forward(encoder, x)
    seed = torch.zeros_like(scores)
    seed[target] = 1
    seeds = rules.add(read[0][-1], read[1][-1], seed) if len(read) == 2 else (seed,)
    parts = zip(encoder.readers, read, seeds, strict=True)
    relevance = sum(_read_back(reader, kept, normed, part, rules) for reader, kept, part in parts)
    return _down(encoder, sample, runs, relevance, rules)  # type: ignore[arg-type]


@torch.no_grad()
def explain_latent(
    encoder: Encoder, sample: Tensor, layer: int, relevance: Tensor, rules: Rules = CONSERVING
) -> Explained:
    """LRP of what has the relevance [n, d] after some blocks; ``streams`` and ``maps`` are of these blocks."""
    x = sample if encoder.patches is None else embed(encoder.patches, sample)
    return _down(encoder, sample, forward(encoder, x)[1][:layer], relevance, rules)


def _down(encoder: Encoder, sample: Tensor, runs: Sequence[_BlockRun], relevance: Tensor, rules: Rules) -> Explained:
    streams, maps = [], []
    for block, run in reversed(list(zip(encoder.blocks, runs, strict=False))):
        relevance, of_maps = _block_back(block, run, relevance, rules)
        streams.insert(0, relevance)
        maps.insert(0, of_maps)
    pixels = None
    if encoder.patches is not None:
        if rules.constants:
            relevance, _ = rules.add(_tokens(encoder.patches, sample), encoder.patches.positions, relevance)
        pixels = _pixels(encoder.patches, sample, relevance[len(encoder.patches.prefix) :])
    return Explained(pixels, streams, maps)


def _pixels(patches: Patches, image: Tensor, relevance: Tensor) -> Tensor:
    """Relevance of patch tokens [P, d] -> of pixels, one patch at a time."""
    size, found = patches.weight.shape[-1], torch.zeros_like(image)
    low, high = image.min(), image.max()
    columns = image.shape[2] // size
    for index in range(len(relevance)):
        top, left = index // columns * size, index % columns * size
        where = (slice(None), slice(top, top + size), slice(left, left + size))
        shares = bounded(patches.weight.flatten(1), image[where].flatten(), low, high, relevance[index])
        found[where] = shares.view_as(image[where])
    return found


def partial_lrp(explained: Explained, readout: Sequence[int] | Tensor) -> Tensor:
    """Positive parts of the readout's rows of the last R_A [n]: mean over heads and, by weights, over readout."""
    return _row(explained.maps[-1].clamp(min=0).mean(0), readout)


def _row(matrix: Tensor, readout: Sequence[int] | Tensor) -> Tensor:
    """The mean of the readout's rows of [n, n], weighted by [n] if it has weights."""
    if isinstance(readout, Tensor):
        return readout @ matrix
    return torch.stack([matrix[token] for token in readout]).mean(0)


def transformer_attribution(
    explained: Explained, gradients: Sequence[Tensor], readout: Sequence[int] | Tensor, start: int = 1,
    patches: Sequence[int] = (),
) -> Tensor:  # fmt: skip
    """The readout's rows [n] of the product of C_b = I + mean_h relu(dA * R_A), dA [H, n, n] of each block.

    Of several tokens read, by weights, ``patches`` show nothing of the product of all I.
    """
    eye = matrix = torch.eye(gradients[0].shape[-1], dtype=gradients[0].dtype)
    for of_map, gradient in list(zip(explained.maps, gradients, strict=True))[start:]:
        weighted = torch.stack([torch.relu(r * g) for r, g in zip(of_map, gradient, strict=True)])
        matrix = matrix + weighted.mean(0) @ matrix
    found, own = _row(matrix, readout), _row(eye, readout)
    if isinstance(readout, Tensor) and (readout > 0).sum() > 1:
        found[list(patches)] = found[list(patches)] - own[list(patches)]
    return found
