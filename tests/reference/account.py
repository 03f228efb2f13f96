"""The account of a latent token written out: every matrix and every factor applied backwards by hand.

Nothing here is differentiated. One sample is run with all its numbers kept. The explained scalar is the
inner product of one token after some blocks with a constant direction; every number on the way gets a
cotangent, and a number times its cotangent is what it contributes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.reference.account_models import ACTIVATIONS, Affine, Layer, Network, Norm

__all__ = ["Account", "Run", "account", "passed", "run_layer", "share", "stream"]


@dataclass
class Account:
    """What a latent token owes to what enters the first block.

    Attributes:
        contributions: [n, d].
        constants: what it owes to the biases of the network.
        value: the explained scalar.
    """

    contributions: Tensor
    constants: float
    value: float


@dataclass
class Run:
    """The numbers of one block.

    Attributes:
        x: what enters it [n, d].
        first: what attention reads [n, d].
        q, k, v: heads of queries, and of keys and values [H, n, c], [G, n, c], before any rotation.
        turned: queries and keys after it.
        maps: [H, n, n].
        mixed: what the heads give [n, H c].
        attended: what the attention branch adds [n, d].
        middle: what the MLP branch starts from [n, d], before its norm if it comes first.
        second: what the MLP reads [n, d].
        gate: before the activation [n, h], None without a gate.
        up: [n, h].
        hidden: what enters the last projection [n, h].
        thought: what the MLP branch adds [n, d].
        y: what leaves the block [n, d].
    """

    x: Tensor
    first: Tensor
    q: Tensor
    k: Tensor
    v: Tensor
    turned: tuple[Tensor, Tensor]
    maps: Tensor
    mixed: Tensor
    attended: Tensor
    middle: Tensor
    second: Tensor
    gate: Tensor | None
    up: Tensor
    hidden: Tensor
    thought: Tensor
    y: Tensor


def rotations(layer: Layer, n: int, c: int) -> Tensor:
    """The matrices [n, c, c] that turn a query or key by its position."""
    basis = torch.eye(c, dtype=layer.query.weight.dtype)[:, None].expand(c, n, c)
    turned = basis if layer.rotary is None else layer.rotary(basis, basis)[0]
    return turned.permute(1, 2, 0)


def attention_map(q: Tensor, k: Tensor, causal: bool) -> Tensor:
    """The map [n, n] of one head [n, c]."""
    scores = q @ k.T / math.sqrt(q.shape[1])
    if causal:
        scores = scores.masked_fill(torch.ones(scores.shape, dtype=torch.bool).triu(1), -math.inf)
    weights = torch.exp(scores - scores.amax(1, keepdim=True))
    return weights / weights.sum(1, keepdim=True)


def run_layer(layer: Layer, x: Tensor, silent: int | None = None) -> Run:
    """One block on [n, d]; the value vectors of the token ``silent`` are zero."""
    first = x if layer.order == "post" else layer.norms[0](x)
    q = layer.query(first).unflatten(1, (layer.heads, -1)).transpose(0, 1)
    k, v = (each(first).unflatten(1, (layer.groups, -1)).transpose(0, 1) for each in (layer.key, layer.value))
    if silent is not None:
        v = v.clone()
        v[:, silent] = 0
    turns = rotations(layer, len(x), q.shape[2])
    turned = torch.einsum("iab,hib->hia", turns, q), torch.einsum("iab,hib->hia", turns, k)
    shared = layer.heads // layer.groups
    maps = [attention_map(turned[0][h], turned[1][h // shared], layer.causal) for h in range(layer.heads)]
    mixed = torch.cat([each @ v[h // shared] for h, each in enumerate(maps)], dim=1)
    attended = layer.out(mixed) * layer.scales[0]

    middle = x if layer.order == "parallel" else x + attended
    middle = layer.norms[0](middle) if layer.order == "post" else middle
    second = middle if layer.order == "post" else layer.norms[1](middle)
    act = ACTIVATIONS[layer.activation][0]
    up, gate = layer.up(second), None if layer.gate is None else layer.gate(second)
    hidden = act(up) if gate is None else act(gate) * up
    thought = layer.down(hidden) * layer.scales[1]
    y = x + (thought + attended) if layer.order == "parallel" else middle + thought
    y = layer.norms[1](y) if layer.order == "post" else y
    maps_of_heads = torch.stack(maps)
    return Run(x, first, q, k, v, turned, maps_of_heads, mixed, attended, middle, second, gate, up, hidden, thought, y)


def stream(network: Network, x0: Tensor, layer: int) -> tuple[Tensor, list[Run]]:
    """The latents [n, d] after some blocks, and the runs of these."""
    x, runs = x0, []
    for each in network.layers[:layer]:
        runs.append(run_layer(each, x))
        x = runs[-1].y
    return x, runs


def passed(name: str, x: Tensor) -> Tensor:
    """What of its input an activation lets through, act(x) / x."""
    return torch.where(x == 0, 0.5, ACTIVATIONS[name][0](x) / x)


def share(x: Tensor, u: Tensor, g: Tensor, gamma: float) -> tuple[Tensor, Tensor]:
    """Cotangents of a stream and of what is added to it, from that of y = x + u; the part along y weighs more."""
    y = x + u
    of_x, of_u = 1 + gamma * (x * y > 0), 1 + gamma * (u * y > 0)
    whole = of_x * x + of_u * u
    return tuple(g * torch.where(whole == 0, 1.0, y * each / whole) for each in (of_x, of_u))  # type: ignore[return-value]


@dataclass
class _Backward:
    attention: str
    gates: str
    gamma: float
    constants: float = 0.0

    def owe(self, bias: Tensor | None, g: Tensor) -> None:
        if bias is not None:
            self.constants += (g * bias).sum().item()

    def affine(self, layer: Affine, g: Tensor) -> Tensor:
        self.owe(layer.bias, g)
        return g @ layer.weight

    def norm(self, norm: Norm, x: Tensor, g: Tensor) -> Tensor:
        """The scale of every token is a constant."""
        self.owe(norm.bias, g)
        return torch.stack([norm.matrix(token).T @ of_token for token, of_token in zip(x, g, strict=True)])

    def mlp(self, layer: Layer, run: Run, g: Tensor) -> Tensor:
        of_hidden = self.affine(layer.down, g * layer.scales[1])
        act, slope = ACTIVATIONS[layer.activation]
        if layer.gate is None or run.gate is None:
            factor = slope(run.up) if self.gates == "gradient" else passed(layer.activation, run.up)
            return self.affine(layer.up, of_hidden * factor)
        of_up = of_hidden * act(run.gate)
        if self.gates == "constant":
            return self.affine(layer.up, of_up)
        of_gate = of_hidden * run.up
        if self.gates == "gradient":
            of_gate = of_gate * slope(run.gate)
        else:
            of_up, of_gate = of_up / 2, of_gate * passed(layer.activation, run.gate) / 2
        return self.affine(layer.up, of_up) + self.affine(layer.gate, of_gate)

    def attend(self, layer: Layer, run: Run, g: Tensor) -> Tensor:
        of_mixed = self.affine(layer.out, g * layer.scales[0]).unflatten(1, (layer.heads, -1))
        of_q, of_k, of_v = (torch.zeros_like(each) for each in (run.q, run.k, run.v))
        turns = rotations(layer, len(g), run.q.shape[2])
        for head in range(layer.heads):
            group = head // (layer.heads // layer.groups)
            each, of_head = run.maps[head], of_mixed[:, head]
            if self.attention == "constant":
                of_v[group] += each.T @ of_head
                continue
            of_v[group] += each.T @ of_head / 2
            of_map = of_head @ run.v[group].T / 2
            of_scores = torch.stack(
                [(torch.diag(row) - torch.outer(row, row)) @ of_row for row, of_row in zip(each, of_map, strict=True)]
            ) / math.sqrt(run.q.shape[2])
            of_turned_q, of_turned_k = of_scores @ run.turned[1][group] / 2, of_scores.T @ run.turned[0][head] / 2
            of_q[head] += torch.einsum("iab,ia->ib", turns, of_turned_q)
            of_k[group] += torch.einsum("iab,ia->ib", turns, of_turned_k)
        pairs = zip((layer.query, layer.key, layer.value), (of_q, of_k, of_v), strict=True)
        return sum(self.affine(projection, found.transpose(0, 1).flatten(1)) for projection, found in pairs)  # type: ignore[return-value]

    def layer(self, layer: Layer, run: Run, g: Tensor) -> Tensor:
        """Cotangent of what enters a block from that of what leaves it."""
        first, second = layer.norms
        if layer.order == "parallel":
            of_x, of_both = share(run.x, run.thought + run.attended, g, self.gamma)
            of_x = of_x + self.norm(second, run.x, self.mlp(layer, run, of_both))
            return of_x + self.norm(first, run.x, self.attend(layer, run, of_both))
        if layer.order == "post":
            g = self.norm(second, run.middle + run.thought, g)
            of_middle, of_thought = share(run.middle, run.thought, g, self.gamma)
            of_middle = self.norm(first, run.x + run.attended, of_middle + self.mlp(layer, run, of_thought))
            of_x, of_attended = share(run.x, run.attended, of_middle, self.gamma)
            return of_x + self.attend(layer, run, of_attended)
        of_middle, of_thought = share(run.middle, run.thought, g, self.gamma)
        of_middle = of_middle + self.norm(second, run.middle, self.mlp(layer, run, of_thought))
        of_x, of_attended = share(run.x, run.attended, of_middle, self.gamma)
        return of_x + self.norm(first, run.x, self.attend(layer, run, of_attended))


@torch.no_grad()
def account(
    network: Network, x0: Tensor, layer: int, token: int, direction: Tensor, *,
    attention: str = "constant", gates: str = "gradient", gamma: float = 0.0,
) -> Account:  # fmt: skip
    """Contributions of what enters the first block to one latent token along a direction.

    Args:
        network: the blocks.
        x0: [n, d].
        layer: how many blocks lie below the token.
        token: its index.
        direction: [d].
        attention: "constant": only values carry; "halves": every product of attention is shared by its two factors.
        gates: "gradient": the derivative of the MLP; "constant": act(x) = x c, and the activated factor of a product
            is a constant; "halves": as before, but both factors of a product share it.
        gamma: how much more weighs the part of a residual sum that has the sum's sign.
    """
    assert attention in {"constant", "halves"} and gates in {"gradient", "constant", "halves"}
    latents, runs = stream(network, x0, layer)
    cotangent = torch.zeros_like(latents)
    cotangent[token] = direction
    backward = _Backward(attention, gates, gamma)
    for each, run in reversed(list(zip(network.layers, runs, strict=False))):
        cotangent = backward.layer(each, run, cotangent)
    return Account(x0 * cotangent, backward.constants, (latents[token] @ direction).item())
