"""The backward pass of attention with relevance, one tile of heads x query rows at a time.

The probabilities A do not depend on the target: a tile of them is rebuilt once for all targets of
a chunk and never kept, so memory grows with the number of tokens n and not with n^2.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from captum_ultra.relevance import kernel
from captum_ultra.relevance.rules import Rule

if TYPE_CHECKING:
    from captum_ultra.relevance.calls import AttentionCall
    from captum_ultra.relevance.cuts import Passing

__all__ = [
    "by_group", "by_head", "cut", "mask_tile", "masked_softmax", "tiled_backward", "tiled_forward", "tiled_values",
]  # fmt: skip

# Numbers in one tile of scores, times targets: on a CPU a few megabytes stay in the last-level
# cache; on an accelerator fewer and larger kernels win.
_TILE_NUMBERS = {"cpu": 2**20, "other": 2**26}
_CAUSAL_TILES, _CAUSAL_ROWS = 8, 64


def tiled_backward(
    grad: Tensor, call: AttentionCall, passing: Passing | None = None, *, wanted: bool = True
) -> tuple[Tensor | None, Tensor | None, Tensor | None, Tensor | None]:
    """Gradients of the queries, keys and values, and what the layer adds to the relevance.

    Inside, the B x H heads form one axis and the T targets stand next to the query rows, so that
    everything is a large matrix product; for a tile of m rows dA = [m T, d] [d, n],
    dq = [m T, n] [n, d], dk = [T n, m] [m, d] and dv = [n, m] [m, T d]. Rows below the first and above the last
    that the gradient of a target reaches are left out.

    Args:
        grad: gradient of the output [T, B, H, n, d_v].
        call: the attention.
        passing: relevance that meets it; None where only gradients are asked for.
        wanted: whether gradients are asked for; else relevance alone.

    Returns:
        dq [T, B, H, n, d], dk and dv [T, B, G, n, .] in at least float32, and what the rule
        adds [T, B, H, n]; each None where it is not asked for.
    """
    (targets, batch, heads, n, d_v), groups = grad.shape, call.key.shape[1]
    compute = torch.promote_types(call.query.dtype, torch.float32)
    q, k, v = (by_head(each, heads, compute) for each in (call.query, call.key, call.value))
    q, d, width = q * call.scale, q.shape[-1], k.shape[1]
    reached = slice(0, n) if passing is not None and passing.rule.sees == "nothing" else _reached(grad)
    d_out = grad.reshape(targets, batch * heads, n, d_v).permute(1, 2, 0, 3).to(compute).contiguous()
    rule, above, added, cells = None, d_out, d_out, None
    if passing is not None:
        rule, cells = passing.rule, passing.cells
        above = passing.rows.transpose(0, 1).repeat_interleave(heads, dim=0)  # [B H, T, n]
        added = torch.zeros_like(above)
    compiled = cells is None and kernel.suits(q, rule, width)
    dq = dk = dv = None
    if wanted:
        dq = (q.new_empty if reached == slice(0, n) else q.new_zeros)(batch * heads, n, targets, d)
        make = q.new_zeros if call.is_causal else q.new_empty  # else the first tile of a head reaches all keys
        dk, dv = make(batch * heads, targets, width, d), make(batch * heads, width, targets * d_v)

    for head, rows in cut(batch * heads, reached, width, targets, call.is_causal, q.device):
        keys = slice(rows.stop if call.is_causal else width)
        probabilities = _probabilities(q, k, call, head, rows, keys)
        g, m, reach = probabilities.shape
        d_rows = d_out[head, rows]
        gradient = torch.bmm(d_rows.reshape(g, m * targets, d_v), v[head, keys].transpose(1, 2)).view(g, m, targets, -1)
        if compiled:
            kernel.one_pass(gradient, probabilities, above[head, :, rows], added[head, :, keys], wanted)
        else:
            factors = None if cells is None else cells.quotient(head, rows, keys).unsqueeze(2)
            of_rule = _one_pass(gradient, probabilities, above[head, :, rows], rule, factors, wanted)
            if of_rule is not None:
                added[head, :, keys] += of_rule
        if dq is None or dk is None or dv is None:
            continue
        of_scores, first = gradient, rows.start == reached.start
        _add(dq[head, rows], of_scores.view(g, m * targets, reach), k[head, keys], True)
        _add(dk[head, :, keys], of_scores.view(g, m, targets * reach).transpose(1, 2), q[head, rows], first)
        _add(dv[head, keys], probabilities.transpose(1, 2), d_rows.reshape(g, m, targets * d_v), first)

    of_heads = None if passing is None else added.view(batch, heads, targets, n).permute(2, 0, 1, 3)
    if dq is None or dk is None or dv is None:
        return None, None, None, of_heads
    dq = dq.mul_(call.scale).view(batch, heads, n, targets, d).permute(3, 0, 1, 2, 4)
    return dq, by_group(dk.transpose(0, 1), batch, groups), _values(dv, call, targets), of_heads


def _add(part: Tensor, left: Tensor, right: Tensor, first: bool) -> None:
    """Add a matrix product to a part [g, ...] of a gradient, or put it there where it is the first."""
    if part.is_contiguous():
        part.view(len(part), -1, right.shape[-1]).baddbmm_(left, right, beta=0 if first else 1)
    else:
        product = torch.bmm(left, right).view(part.shape)
        part.copy_(product) if first else part.add_(product)


def _one_pass(
    gradient: Tensor, probabilities: Tensor, above: Tensor, rule: Rule | None, factors: Tensor | None, wanted: bool
) -> Tensor | None:
    """Turn dA [g, m, T, n] into the gradient of the scores, in place; returns what the rule adds [g, T, n]."""
    added = None
    if rule is not None and rule.sees == "gradient":
        added = rule(above, probabilities, gradient if factors is None else gradient * factors)
        if not wanted:
            return added
    product = gradient.mul_(probabilities.unsqueeze(2))
    if rule is not None and rule.sees != "gradient":
        added = rule(above, probabilities, product if factors is None else product * factors)
    if wanted:  # A * dA - A * sum(A * dA)
        product.addcmul_(product.sum(-1, keepdim=True), probabilities.unsqueeze(2), value=-1)
    return added


def _reached(grad: Tensor) -> slice:
    """From the first to the last query row whose gradient [T, B, H, n, d_v] is not zero for every target."""
    if grad.device.type != "cpu":  # an accelerator would be waited for in every layer
        return slice(0, grad.shape[3])
    if all((grad[:, :, :, end] != 0).any() for end in (0, -1)):
        return slice(0, grad.shape[3])
    rows = (grad != 0).any(-1).flatten(0, 2).any(0).nonzero()
    return slice(int(rows[0]), int(rows[-1]) + 1) if len(rows) else slice(0, 1)


def tiled_values(grad: Tensor, call: AttentionCall) -> Tensor:
    """The gradient of the values alone [T, B, G, n, d_v], A^T dO, of that of the output [T, B, H, n, d_v]."""
    targets, batch, heads, n, d_v = grad.shape
    compute = torch.promote_types(call.query.dtype, torch.float32)
    d_out = grad.reshape(targets, batch * heads, n, d_v).permute(1, 2, 0, 3).to(compute).flatten(2).contiguous()
    dv = d_out.new_zeros(batch * heads, call.key.shape[2], targets * d_v)
    for head, rows, keys, probabilities in _maps(call, compute):
        dv[head, keys].baddbmm_(probabilities.transpose(1, 2), d_out[head, rows])
    return _values(dv, call, targets)


def tiled_forward(relevance: Tensor, call: AttentionCall, rule: Rule) -> Tensor:
    """What a rule that sees no gradient adds [T, B, H, n]; arguments as in :func:`tiled_backward`."""
    targets, (batch, heads, n, _) = len(relevance), call.query.shape
    above = relevance.transpose(0, 1).repeat_interleave(heads, dim=0)  # [B H, T, n]
    added = torch.zeros_like(above)
    for head, rows, keys, probabilities in _maps(call, torch.promote_types(call.query.dtype, torch.float32)):
        added[head, :, keys] += rule(above[head, :, rows], probabilities, above.new_empty(0))
    return added.view(batch, heads, targets, n).permute(2, 0, 1, 3)


def _maps(call: AttentionCall, compute: torch.dtype) -> Iterator[tuple[slice, slice, slice, Tensor]]:
    """All of A by tiles: heads of the batch, rows, keys, and the tile [g, rows, keys]."""
    heads = call.query.shape[1]
    q, k = by_head(call.query, heads, compute) * call.scale, by_head(call.key, heads, compute)
    for head, rows in cut(len(q), slice(0, q.shape[1]), k.shape[1], 1, call.is_causal, q.device):
        keys = slice(rows.stop if call.is_causal else k.shape[1])
        yield head, rows, keys, _probabilities(q, k, call, head, rows, keys)


def _probabilities(q: Tensor, k: Tensor, call: AttentionCall, head: slice, rows: slice, keys: slice) -> Tensor:
    """A tile of A [g, rows, keys] of scaled queries and keys [B H, n, d]."""
    scores = torch.bmm(q[head, rows], k[head, keys].transpose(1, 2))
    mask = mask_tile(call.mask, call.query.shape[1], head, rows)
    return masked_softmax(scores, mask, rows.start if call.is_causal else None)


def _values(dv: Tensor, call: AttentionCall, targets: int) -> Tensor:
    """[B H, n, T d_v] -> [T, B, G, n, d_v]."""
    by_target = dv.view(*dv.shape[:2], targets, -1).permute(2, 0, 1, 3)
    return by_group(by_target, *call.value.shape[:2])


def by_head(tensor: Tensor, heads: int, dtype: torch.dtype) -> Tensor:
    """[B, G, n, d] -> contiguous [B H, n, d], repeating the heads that several queries share."""
    return tensor.to(dtype).repeat_interleave(heads // tensor.shape[1], dim=1).flatten(0, 1).contiguous()


def by_group(gradient: Tensor, batch: int, groups: int) -> Tensor:
    """[T, B H, n, d] -> [T, B, G, n, d], summed over the queries that share a head."""
    heads = gradient.shape[1]
    by_sample = gradient.unflatten(1, (batch, heads // batch))
    return by_sample if heads == batch * groups else by_sample.unflatten(2, (groups, -1)).sum(3)


def cut(
    heads: int, rows: slice, width: int, targets: int, is_causal: bool, device: torch.device
) -> Iterator[tuple[slice, slice]]:
    """Cut heads x query rows so that no tile of scores of so many keys, times targets, exceeds the budget."""
    numbers = _TILE_NUMBERS.get(device.type, _TILE_NUMBERS["other"])
    n = rows.stop - rows.start
    high = max(1, min(n, numbers // (targets * width)))
    if is_causal:  # a tile reaches to its last row's key: low tiles waste little on the future
        high = min(high, max(width // _CAUSAL_TILES, _CAUSAL_ROWS))
    high = -(-n // -(-n // high))  # tiles of equal height
    group = 1 if device.type == "cpu" else max(1, min(heads, numbers // (targets * width * high)))
    for head in range(0, heads, group):
        for row in range(rows.start, rows.stop, high):
            yield slice(head, min(head + group, heads)), slice(row, min(row + high, rows.stop))


def masked_softmax(scores: Tensor, mask: Tensor | None, first_row: int | None) -> Tensor:
    """Probabilities [g, m, keys] of scores (overwritten); a row that may attend to nothing is zero."""
    if first_row is not None:  # causal: only the square that ends on the diagonal holds future keys
        scores[:, :, first_row:].masked_fill_(_future(scores.shape[1], scores.device), -torch.inf)
    if mask is None:
        return torch.softmax(scores, dim=-1)
    if mask.dtype == torch.bool:
        scores.masked_fill_(~mask, -torch.inf)
    else:
        scores += mask
    nothing = scores.amax(-1, keepdim=True) == -torch.inf
    return torch.softmax(scores, dim=-1).masked_fill_(nothing, 0)


@lru_cache(maxsize=4)
def _future(rows: int, device: torch.device) -> Tensor:
    return torch.ones(rows, rows, dtype=torch.bool, device=device).triu_(1)


def mask_tile(mask: Tensor | None, heads: int, head: slice, rows: slice) -> Tensor | None:
    """The part of a mask broadcastable to [B, H, n, n] that a tile of the B H heads needs."""
    if mask is None:
        return None
    mask = mask[(None,) * (4 - mask.dim())]
    mask = mask[:, :, rows] if mask.shape[2] > 1 else mask
    index = torch.arange(head.start, head.stop, device=mask.device)
    of_sample = index // heads if mask.shape[0] > 1 else torch.zeros_like(index)
    of_head = index % heads if mask.shape[1] > 1 else torch.zeros_like(index)
    return mask[of_sample, of_head]
