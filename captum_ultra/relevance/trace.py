"""What one run of a model leaves behind for the pull-backs from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance.ledger import Ledger

__all__ = ["Trace"]


@dataclass
class Trace:
    """One run of a model with relevance threaded through it.

    Attributes:
        sources: block -> [B, n], the relevance that begins below it; the leaves of every pull-back. One,
            unless every block carries a relevance of its own.
        latents: layer -> residual stream [B, n, d] after so many blocks (0: the embedding).
        relevance: layer -> the relevance vector [B, n] at the same place.
        streams: layer -> the residual stream as the model carries it, tokens first or batch first.
        batch_first: whether the model carries [B, n, d] (else [n, B, d]).
        last_block_output: what the last block that ran returned.
        ledger: gradient scale and finiteness flags.
    """

    sources: dict[int, Tensor] = field(default_factory=dict)
    latents: dict[int, Tensor] = field(default_factory=dict)
    relevance: dict[int, Tensor] = field(default_factory=dict)
    streams: dict[int, Tensor] = field(default_factory=dict)
    batch_first: bool = True
    last_block_output: Any = None
    ledger: Ledger = field(default_factory=Ledger)

    @classmethod
    def begin(cls, stream: Tensor) -> Trace:
        """A trace whose relevance begins at the stream [B, n, d] that the first block receives."""
        trace = cls()
        trace.keep(0, stream, trace.add_source(0, stream))
        return trace

    @property
    def source(self) -> Tensor:
        """Where relevance that is threaded through all blocks begins: [B, n]."""
        return self.sources[min(self.sources)]

    def add_source(self, block: int, stream: Tensor) -> Tensor:
        """A new relevance vector [B, n] below a block that receives the stream [B, n, d]."""
        dtype = torch.promote_types(stream.dtype, torch.float32)
        self.sources[block] = torch.zeros(stream.shape[:2], dtype=dtype, device=stream.device, requires_grad=True)
        return self.sources[block]

    def keep(self, layer: int, stream: Tensor, relevance: Tensor) -> None:
        """Keep what a pull-back from ``layer`` needs: the stream [B, n, d] and the relevance [B, n]."""
        self.latents[layer], self.relevance[layer] = stream, relevance
        self.ledger.note_forward(layer, stream)

    def gradients(self, scores: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """Gradients [B, n, d] of the sum of scores with respect to the latents of layers; the graph is kept.

        Raises:
            UnsupportedModelError: if the scores do not depend on a layer.
        """
        found = torch.autograd.grad(
            scores.sum(), [self.streams[layer] for layer in layers], retain_graph=True, allow_unused=True
        )
        for layer, gradient in zip(layers, found, strict=True):
            if gradient is None:
                raise UnsupportedModelError(
                    f"the model's output does not depend on its latents at layer {layer}: it is detached, or comes "
                    "from another part of the model"
                )
        return [each if self.batch_first else each.transpose(0, 1) for each in found]
