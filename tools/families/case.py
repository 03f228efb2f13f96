"""One model to try, and the weights under which a wrong answer shows."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


def run_plainly(model: Any, inputs: Tensor, extra: Any) -> Any:
    """The model on its input, as its library's documentation calls it."""
    arguments = extra if isinstance(extra, tuple) else () if extra is None or isinstance(extra, dict) else (extra,)
    named = extra if isinstance(extra, dict) else {}
    name = getattr(model, "main_input_name", None)
    names = inspect.signature(model.forward).parameters
    if "use_cache" in names:
        named = {"use_cache": False, **named}
    if name is not None and name in names:
        if inputs.dim() == 2 and not inputs.is_floating_point() and "input_ids" in names:
            name = "input_ids"
        if inputs.dim() == 4 and "pixel_values" in names:
            name = "pixel_values"
        return model(*arguments, **{name: inputs}, **named)
    return model(inputs, *arguments, **named)


@dataclass(frozen=True)
class Case:
    """A small model of a family.

    Attributes:
        name: of the line in the table.
        group: library and kind, the heading in the table.
        build: makes the model.
        inputs: makes its input, in float64 where it is of floats.
        expected: "exact" or "refused", where it is known which; a line that differs is marked.
        extra: makes Captum's ``additional_forward_args``.
        run: runs the model by itself.
        blocks: given to the library as ``blocks=``: a name, or what makes them from the model.
        padded: whether to try left and right padding.
        stirred: whether weights are drawn anew.
    """

    name: str
    group: str
    build: Callable[[], nn.Module]
    inputs: Callable[[], Tensor]
    expected: str = ""
    extra: Callable[[], Any] = lambda: None
    run: Callable[[Any, Tensor, Any], Any] = run_plainly
    blocks: str | Callable[[Any], Any] | None = None
    padded: bool = False
    stirred: bool = True

    def model(self) -> nn.Module:
        """The model in evaluation mode with its weights seeded."""
        torch.manual_seed(0)
        model = self.build().eval()
        return stir(model) if self.stirred else model

    def blocks_of(self, model: nn.Module) -> Any:
        return self.blocks(model) if callable(self.blocks) else self.blocks


def stir(model: nn.Module) -> nn.Module:
    """Random weights under which attention is neither uniform nor the identity, whatever the family starts from."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not parameter.is_floating_point():
                continue
            noise = torch.randn(parameter.shape, generator=generator).to(parameter)
            if parameter.dim() >= 2:
                fan_in = parameter[0].numel() if parameter.shape[0] > 1 else parameter.shape[-1]
                parameter.copy_(noise * 1.5 / math.sqrt(max(fan_in, 1)))
            else:
                parameter.copy_(0.1 * noise + (0 if name.endswith("bias") else 1))
    return model


def text(length: int = 10, batch: int = 2, vocabulary: int = 50) -> Tensor:
    """Ids [B, N] that are none of the usual special tokens."""
    return torch.randint(5, vocabulary, (batch, length), generator=torch.Generator().manual_seed(1))


def floats(*shape: int) -> Tensor:
    """Numbers in float64: images [B, C, H, W], videos, sound, vectors."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
