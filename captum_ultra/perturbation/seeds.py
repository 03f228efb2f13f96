"""Random numbers of one sample, whatever else is computed."""

from __future__ import annotations

import numpy as np
import torch

__all__ = ["seeded_generator"]


def seeded_generator(seed: int, *numbers: int) -> torch.Generator:
    """A generator on the CPU for one sample of a seed; those of different samples are unrelated.

    Args:
        seed: not negative.
        numbers: which sample, not negative.

    Raises:
        ValueError: for a negative number.

    Example:
        >>> first, again, other = (seeded_generator(0, number) for number in (1, 1, 2))
        >>> torch.rand(1, generator=first) == torch.rand(1, generator=again)
        tensor([True])
    """
    state = np.random.SeedSequence([seed, *numbers]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> np.uint64(1)))
