"""The relevance of attention maps, kept as what it can be rebuilt from."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from captum_ultra.relevance.calls import AttentionCall

__all__ = ["MapRelevance"]


@dataclass(frozen=True)
class MapRelevance:
    """The relevance R_A of one layer's attention map: ``R_A = A * (S V^T) / 2``, of which a part is made when asked.

    Attributes:
        share: S [B, H, n, d_v], the relevance of the layer's output over the output.
        value: V [B, G, m, d_v]; G divides H.
        call: a fused attention, or None.
        explicit: A [B, H, n, m] where the model made it itself, or None.
    """

    share: Tensor
    value: Tensor
    call: AttentionCall | None = None
    explicit: Tensor | None = None

    def quotient(self, head: slice, rows: slice, keys: slice) -> Tensor:
        """R_A / A: a tile [g, rows, keys] of the B x H heads, in at least float32."""
        heads, groups = self.share.shape[1], self.value.shape[1]
        index = torch.arange(head.start, head.stop, device=self.share.device)
        sample, shared = index // heads, index % heads // (heads // groups)
        return self.share.flatten(0, 1)[head, rows] @ self.value[sample, shared, keys].to(self.share).mT / 2

    def row(self, row: int) -> Tensor:
        """R_A of one query token [B, H, m], in at least float32."""
        batch, heads, n, _ = self.share.shape
        row = range(n)[row]
        rows, whole = slice(row, row + 1), slice(0, batch * heads)
        keys = slice(0, self.value.shape[2])
        return (self._probabilities(rows) * self.quotient(whole, rows, keys)).view(batch, heads, -1)

    def _probabilities(self, rows: slice) -> Tensor:
        """A tile of A for all heads [B H, rows, m]."""
        batch, heads = self.share.shape[:2]
        if self.explicit is not None:
            return self.explicit[:, :, rows].flatten(0, 1).to(self.share)
        assert self.call is not None
        query, key = self.call.query[:, :, rows].to(self.share), self.call.key.to(self.share)
        keys = key.repeat_interleave(heads // key.shape[1], dim=1)
        if self.call.is_causal:
            keys = keys[:, :, : rows.stop]
        tile = self.call.probabilities((query @ keys.mT).flatten(0, 1), slice(0, batch * heads), rows)
        return torch.nn.functional.pad(tile, (0, key.shape[2] - tile.shape[-1]))
