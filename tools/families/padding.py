"""Texts padded on either side against the text alone, wherever the model itself agrees with itself."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, nn

ADDED = 3


def padded(model: nn.Module, ids: Tensor, side: str) -> tuple[Tensor, dict[str, Tensor], slice]:
    """A text with padding, what the model is told of it, and where the text stands."""
    padding = getattr(getattr(model, "config", None), "pad_token_id", None) or 0
    filler = torch.full((len(ids), ADDED), padding if isinstance(padding, int) and padding >= 0 else 0)
    seen, unseen = torch.ones_like(ids), torch.zeros_like(filler)
    first = side == "left"
    mask = torch.cat([unseen, seen] if first else [seen, unseen], 1)
    told = {"attention_mask": mask}
    if "position_ids" in inspect.signature(model.forward).parameters:
        told["position_ids"] = (mask.cumsum(1) - 1).clamp(min=0)
    length = ids.shape[1]
    place = slice(ADDED, ADDED + length) if first else slice(0, length)
    return torch.cat([filler, ids] if first else [ids, filler], 1), told, place


def disagreement(explain: Any, latents: Any, model: nn.Module, ids: Tensor, depth: int) -> tuple[float, str]:
    """The largest difference of rows under padding, relative to the row's largest entry, and on which side.

    Args:
        explain: (ids, extra, tokens, layer) -> rows [B, T, n].
        latents: (ids, extra) -> [B, n, d] of the last layer, or raises.
        model: the model.
        ids: [B, N], without padding.
        depth: the last layer.
    """
    worst, where = 0.0, ""
    tokens = [ids.shape[1] // 2, ids.shape[1] - 1]
    alone, rows = latents(ids, None), explain(ids, None, tokens, depth)
    for side in ("left", "right"):
        longer, told, place = padded(model, ids, side)
        try:
            same = torch.allclose(latents(longer, told)[:, place], alone, rtol=1e-3, atol=1e-4)
        except Exception:
            continue  # the model has no such arguments
        if not same:
            continue
        found = explain(longer, told, [place.start + each for each in tokens], depth)
        outside = torch.ones(longer.shape[1], dtype=torch.bool)
        outside[place] = False
        difference = max((found[..., place] - rows).abs().max().item(), found[..., outside].abs().max().item())
        difference /= max(rows.max().item(), 1e-30)
        if difference > worst:
            worst, where = difference, side
    return worst, where
