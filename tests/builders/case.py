"""One model to test on: how it is built, what it is given, and where the reference finds its blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from tests.reference.recording import Recording, record

DEPTH = 3
CHANNELS = 32
HEADS = 4
VOCABULARY = 50


@dataclass(frozen=True)
class Case:
    """A tiny model of a real class with random weights.

    Attributes:
        name: library, model and variant, for the test's name.
        build: makes the model; call ``model()`` to have its weights stirred and seeded.
        shape: of the input, batch first: [B, 3, H, W] for images, [B, n] for token ids, [B, n, d] for vectors.
        blocks: path of the container of its blocks.
        tokens: number of tokens that its blocks see.
        prefix: of an image model, tokens before the patches.
        grid: of an image model, rows and columns of patches.
        call: how it runs on an input, for the reference.
        batch_first: whether its residual stream is [B, n, d].
        depth: number of blocks.
    """

    name: str
    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    blocks: str
    tokens: int
    prefix: int = 0
    grid: tuple[int, int] | None = None
    call: Callable[[Any, Tensor], Any] = lambda model, inputs: model(inputs)
    batch_first: bool = True
    depth: int = DEPTH

    def model(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        torch.manual_seed(0)
        return stir(self.build()).eval().to(dtype)

    def inputs(self, dtype: torch.dtype = torch.float32) -> Tensor:
        generator = torch.Generator().manual_seed(1)
        if len(self.shape) == 2:
            return torch.randint(3, VOCABULARY, self.shape, generator=generator)
        return torch.randn(self.shape, generator=generator, dtype=torch.float64).to(dtype)

    def record(self, model: Any, inputs: Tensor) -> Recording:
        """The run of the model as the reference sees it."""
        blocks = list(model.get_submodule(self.blocks))
        return record(lambda: self.call(model, inputs), model, blocks, self.batch_first)


def stir(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights under which attention is neither uniform nor the identity.

    Libraries initialise for training: weights of 0.02 and layer scales of 1e-5 leave maps that any
    wrong method would pass. Matrices get unit gain, biases 0.1, scales about one.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            if parameter.dim() >= 2:
                fan_in = parameter[0].numel() if parameter.shape[0] > 1 else parameter.shape[-1]
                parameter.copy_(noise * 1.5 / math.sqrt(fan_in))
            else:
                parameter.copy_(0.1 * noise + (0 if name.endswith("bias") else 1))
    return model
