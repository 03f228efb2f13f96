"""How many targets to pull back at once."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["automatic_chunk"]

# The largest arrays of a pull-back are the gradients inside an MLP, about four times as wide as
# the residual stream; a handful of them are alive at once.
_NUMBERS_PER_CHANNEL = 4
_ALIVE = 6
# On a CPU chunks whose arrays stay within the last-level cache were fastest; beyond it, more
# targets only cost memory.
_CPU_ARRAY_BYTES = 20 * 2**20
_SHARE_OF_FREE_MEMORY = 0.25


def automatic_chunk(latents: Tensor, memory_budget: int | None = None) -> int:
    """Number of targets whose pull-back together stays within a memory budget, at least 1.

    Args:
        latents: the residual stream [B, n, d] at the explained layer.
        memory_budget: bytes; by default what the caches of a CPU hold, or a quarter of the free
            memory of an accelerator.

    Example:
        >>> import torch
        >>> automatic_chunk(torch.zeros(1, 197, 384), memory_budget=64 * 2**20)
        9
    """
    bytes_per_target = latents.numel() * _NUMBERS_PER_CHANNEL * torch.float32.itemsize * _ALIVE
    budget = _default_budget(latents.device) if memory_budget is None else memory_budget
    return max(1, budget // max(1, bytes_per_target))


def _default_budget(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free * _SHARE_OF_FREE_MEMORY)
    return _CPU_ARRAY_BYTES * _ALIVE
