"""ULTra written out: every attention map stored with its gradient, one backward pass per token.

Slow and explicit on purpose, and independent of the package: the fast engine is held against it.
Notation as in the paper (arXiv 2411.12589): A_h^(b) are the attention probabilities of head h in
block b, dA_h^(b) the gradient of the explained scalar F, and C^(b) = I + mean_h relu(dA_h A_h).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tests.reference.recording import Recording

Score = str | Tensor


def contribution(probabilities: Tensor, gradient: Tensor) -> Tensor:
    """C [B, n, n] of one block from its maps and their gradients, both [B, H, n, n]."""
    n = probabilities.shape[-1]
    weighted = torch.relu(gradient * probabilities).mean(dim=1)
    return torch.eye(n, dtype=weighted.dtype, device=weighted.device) + weighted


def explanation_matrix(maps: Sequence[Tensor], gradients: Sequence[Tensor]) -> Tensor:
    """S = C^(l) ... C^(1) [B, n, n] in the order of the flow of information, as the authors' loop makes it."""
    batch, _, n, _ = maps[0].shape
    matrix = torch.eye(n, dtype=maps[0].dtype).expand(batch, n, n)
    for probabilities, gradient in zip(maps, gradients, strict=True):
        matrix = contribution(probabilities, gradient) @ matrix
    return matrix


def explanation_row(maps: Sequence[Tensor], gradients: Sequence[Tensor], token: int) -> Tensor:
    """Row ``token`` of S [B, n]: e_i C^(l), then C^(l-1), down to C^(1)."""
    batch, _, n, _ = maps[0].shape
    row = torch.zeros(batch, n, dtype=maps[0].dtype)
    row[:, token] = 1
    for probabilities, gradient in zip(reversed(maps), reversed(gradients), strict=True):
        row = torch.einsum("bi,bij->bj", row, contribution(probabilities, gradient))
    return row


def replace_self_entry(row: Tensor, token: int, rule: str, columns: slice = slice(None)) -> Tensor:
    """The target's own column of rows [B, n] as the rule says; "max" looks at the others among ``columns``."""
    row = row.clone()
    if rule == "keep":
        return row
    row[:, token] = 0
    if rule == "max":
        row[:, token] = row[:, columns].max(dim=1).values
    return row


def scalar(latents: Tensor, token: int, score: Score, normalize: bool) -> Tensor:
    """F: the score of token i, summed over the samples of the batch (they do not see each other)."""
    t = latents[:, token]
    if normalize:
        t = t / t.detach().norm(dim=-1, keepdim=True)
    if isinstance(score, Tensor):
        return (t * (score[token] if score.dim() == 2 else score)).sum()
    return {"sum": t, "energy": t * t}[score].sum()


def explain(
    recording: Recording, token: int, layer: int, score: Score = "sum", normalize: bool = True,
    self_token: str = "max", columns: slice = slice(None),
) -> Tensor:  # fmt: skip
    """Relevance [B, n] of every input token for latent token ``token`` after ``layer`` blocks."""
    latents, maps = recording.latents[layer], recording.maps[:layer]
    if layer == 0:
        row = torch.zeros(latents.shape[:2], dtype=latents.dtype)
        row[:, token] = 1
        return replace_self_entry(row, token, self_token, columns)
    value = scalar(latents, token, score, normalize)
    gradients = torch.autograd.grad(value, maps, retain_graph=True)
    row = explanation_row(
        [recording.by_head(each.detach()) for each in maps], [recording.by_head(each) for each in gradients], token
    )
    return replace_self_entry(row, token, self_token, columns)
