"""Models and texts for the faithfulness tests."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.perturbation import TokenScores
from tests.builders import case_named
from tests.builders.case import VOCABULARY

LENGTH = 24


def causal_model(name: str) -> Any:
    """A real transformers model with random weights that attend unevenly, float64."""
    return case_named(f"hf-{name}-sdpa").model(torch.float64)


def scored_text(sources: int = 14, targets: int = 4, *, bos: bool = True, seed: int = 0) -> TokenScores:
    """[BOS] context, a separator of two tokens, a summary; random ids and scores."""
    generator = torch.Generator().manual_seed(seed)
    start = int(bos)
    length = start + sources + 2 + targets
    return TokenScores(
        input_ids=torch.randint(1, VOCABULARY, (length,), generator=generator),
        source_positions=torch.arange(start, start + sources),
        target_positions=torch.arange(length - targets, length),
        scores=torch.randn(sources, generator=generator),
    )


class Witness(nn.Module):
    """Puts a logit of 2 on token ``told`` wherever token ``key`` has been read, else all logits are 0.

    Written without attention; keeps what it was called with.
    """

    def __init__(self, key: int = 1, told: int = 3, vocabulary: int = 6, dtype: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.dtype = dtype
        self.key, self.told, self.vocabulary = key, told, vocabulary
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, ids: Tensor) -> Tensor:
        assert int(ids.max()) < self.vocabulary
        self.shapes.append(tuple(ids.shape))
        seen = ((ids == self.key).cumsum(1) > 0).to(self.dtype)
        return 2 * seen[..., None] * nn.functional.one_hot(torch.tensor(self.told), self.vocabulary)
