"""How many targets to pull back at once."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["automatic_chunk"]

_WIDER = 4  # how much wider than the residual stream the arrays inside an MLP are, where none was seen
_ALIVE = 6  # such arrays at once
# Arrays above 32 MB are mapped anew each time, and every page of them is made when it is first written to; smaller
# ones stay in part in the cache.
_CPU_ARRAY_BYTES = 24 * 2**20
_SHARE_OF_FREE_MEMORY = 0.25


def automatic_chunk(latents: Tensor, targets: int, widest: int = 0, memory_budget: int | None = None) -> int:
    """Number of targets whose pull-back together stays within a memory budget, at least 1; chunks are of like size.

    Args:
        latents: the residual stream [B, n, d] at the explained layer.
        targets: how many there are.
        widest: numbers of the largest array that the run made of all samples; 0 where that is not known.
        memory_budget: bytes; by default what the allocator of a CPU hands out twice, or a quarter of the free
            memory of an accelerator.

    Example:
        >>> import torch
        >>> automatic_chunk(torch.zeros(1, 197, 384), 32, memory_budget=64 * 2**20)    # not 9, 9, 9 and 5
        8
    """
    numbers = max(widest or latents.numel() * _WIDER, 1)
    budget = _default_budget(latents.device) if memory_budget is None else memory_budget
    chunk = max(1, budget // (numbers * torch.float32.itemsize * _ALIVE))
    return math.ceil(targets / math.ceil(targets / chunk)) if targets else 1


def _default_budget(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * _SHARE_OF_FREE_MEMORY)
    return _CPU_ARRAY_BYTES * _ALIVE
