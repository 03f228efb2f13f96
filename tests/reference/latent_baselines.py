"""What other methods say of a latent token, written out: ALTI, value zeroing and decomposed vectors.

Decomposed vectors [n, n + 1, d] hold, of each token, the part that comes from each token of the input,
and last the part that comes from the biases. The parts of a token sum to it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from tests.reference.account import Run, passed, run_layer, stream
from tests.reference.account_models import ACTIVATIONS, Affine, Layer, Network, Norm

__all__ = ["alti", "decomposed", "decompx", "value_zeroing"]


def _apart(x: Tensor) -> Tensor:
    """Every token comes from itself."""
    parts = torch.zeros(len(x), len(x) + 1, x.shape[1], dtype=x.dtype)
    for i in range(len(x)):
        parts[i, i] = x[i]
    return parts


def _with_bias(parts: Tensor, bias: Tensor | None) -> Tensor:
    if bias is not None:
        parts[:, -1] += bias
    return parts


def _affine(layer: Affine, parts: Tensor) -> Tensor:
    return _with_bias(parts @ layer.weight.T, layer.bias)


def _norm(norm: Norm, parts: Tensor) -> Tensor:
    """The scale is that of the whole token, a constant."""
    normed = [of_token @ norm.matrix(of_token.sum(0)).T for of_token in parts]
    return _with_bias(torch.stack(normed), norm.bias)


def _attend(layer: Layer, run: Run, parts: Tensor) -> Tensor:
    """What the attention branch adds, for the parts of what enters the block."""
    read = parts if layer.order == "post" else _norm(layer.norms[0], parts)
    values = _affine(layer.value, read).unflatten(2, (layer.groups, -1))
    mixed = []
    for head in range(layer.heads):
        value = values[:, :, head // (layer.heads // layer.groups)]
        mixed.append(torch.einsum("ij,jsc->isc", run.maps[head], value))
    return _affine(layer.out, torch.cat(mixed, dim=2)) * layer.scales[0]


def _think(layer: Layer, run: Run, parts: Tensor) -> Tensor:
    """What the MLP branch adds, for the parts of what it starts from."""
    read = parts if layer.order == "post" else _norm(layer.norms[1], parts)
    act = ACTIVATIONS[layer.activation][0]
    factor = passed(layer.activation, run.up) if run.gate is None else act(run.gate)
    return _affine(layer.down, _affine(layer.up, read) * factor[:, None]) * layer.scales[1]


def _below_mlp(layer: Layer, run: Run, parts: Tensor) -> Tensor:
    """The attention sublayer: its residual connection included, and the norm that follows it if one does."""
    summed = parts + _attend(layer, run, parts)
    return _norm(layer.norms[0], summed) if layer.order == "post" else summed


def _through(layer: Layer, run: Run, parts: Tensor) -> Tensor:
    middle = _below_mlp(layer, run, parts)
    if layer.order == "parallel":
        return middle + _think(layer, run, parts)
    output = middle + _think(layer, run, middle)
    return _norm(layer.norms[1], output) if layer.order == "post" else output


@torch.no_grad()
def decomposed(network: Network, x0: Tensor, layer: int) -> Tensor:
    """The parts [n, n + 1, d] of the latents after some blocks, for x0 [n, d]."""
    parts = _apart(x0)
    for each, run in zip(network.layers, stream(network, x0, layer)[1], strict=False):
        parts = _through(each, run, parts)
    return parts


def decompx(network: Network, x0: Tensor, layer: int, token: int) -> Tensor:
    """The parts [n, d] of one latent token that come from the tokens of the input (Modarressi et al. 2023)."""
    return decomposed(network, x0, layer)[token, :-1]


def _row_of_product(matrices: list[Tensor], n: int, token: int) -> Tensor:
    """Row of M_L ... M_1, each with rows divided by their sums; a row of zeros stays one."""
    product = torch.eye(n, dtype=torch.float64)
    for matrix in matrices:
        sums = matrix.sum(1, keepdim=True)
        product = torch.where(sums == 0, 0.0, matrix / sums) @ product
    return product[token]


@torch.no_grad()
def alti(network: Network, x0: Tensor, layer: int, token: int) -> Tensor:
    """Aggregated layer-wise token-to-token interactions [n] (Ferrando et al. 2022)."""
    n, matrices = len(x0), []
    for each, run in zip(network.layers, stream(network, x0, layer)[1], strict=False):
        parts = _below_mlp(each, run, _apart(run.x))
        contributions = torch.zeros(n, n, dtype=x0.dtype)
        for i in range(n):
            whole = parts[i].sum(0)
            for j in range(n):
                near = whole.abs().sum() - (whole - parts[i, j]).abs().sum()
                contributions[i, j] = near.clamp(min=0)
        matrices.append(contributions)
    return _row_of_product(matrices, n, token)


def _cosine_distance(a: Tensor, b: Tensor) -> Tensor:
    """1 - cos as half the squared distance of the directions: never negative, and 0 for equal vectors."""
    return (a / a.norm() - b / b.norm()).square().sum() / 2


@torch.no_grad()
def value_zeroing(network: Network, x0: Tensor, layer: int, token: int) -> Tensor:
    """Change of the block outputs without the values of each token [n], rolled out (Mohebbi et al. 2023)."""
    n, matrices = len(x0), []
    for each, run in zip(network.layers, stream(network, x0, layer)[1], strict=False):
        changes = torch.zeros(n, n, dtype=x0.dtype)
        for j in range(n):
            without = run_layer(each, run.x, silent=j).y
            for i in range(n):
                changes[i, j] = _cosine_distance(run.y[i], without[i])
        matrices.append(changes)
    return _row_of_product(matrices, n, token)
