"""What the library makes of a model and an input, found by trying: blocks, tokens, methods, cost."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_ultra.adapters import Blocks, ModelViews, TokenLayout
from captum_ultra.adapters.class_scores import Head
from captum_ultra.adapters.probe import container_name
from captum_ultra.attr.inputs import checked_inputs
from captum_ultra.attr.methods import METHODS, method_class
from captum_ultra.attr.runs import half_precision_explained, layout_of, padding_of
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance import explaining, kernel

__all__ = ["Cost", "Description", "describe"]

_TARGETS = 8


@dataclass(frozen=True)
class Cost:
    """What explanations cost, measured once; in forward passes of the same input.

    Attributes:
        forward: seconds of a forward pass.
        first: of one explained token of the last layer, the forward pass that it needs included.
        more: of each further token of the same input.
    """

    forward: float
    first: float
    more: float


@dataclass(frozen=True)
class Description:
    """What can be explained of a model on an input, and why not the rest; prints as a table.

    Attributes:
        name: of the model, or of the tower that the input belongs to.
        input: what the input is.
        refusal: why nothing can be explained; then the rest is empty.
        blocks: names of the residual blocks that are followed, in order.
        container: what to give as ``blocks=`` for them.
        layout: of the tokens.
        padding: number of tokens of each sample that are padding.
        left_out: names of modules that run attention which no block holds.
        latents: method -> why it cannot explain a latent token; None if it can.
        classes: the same of a class.
        cost: of explanations; None where it was not measured.
        tiles: what works on the attention of long inputs on a CPU: a compiled kernel, or torch, and why; empty where
            the cost was not measured.
    """

    name: str
    input: str
    refusal: str | None = None
    blocks: tuple[str, ...] = ()
    container: str | list[str] = ""
    layout: TokenLayout | None = None
    padding: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()
    latents: Mapping[str, str | None] = field(default_factory=dict)
    classes: Mapping[str, str | None] = field(default_factory=dict)
    cost: Cost | None = None
    tiles: str = ""

    def __str__(self) -> str:
        lines = [f"{self.name} on {self.input}"]
        if self.refusal is not None:
            return f"{lines[0]}\ncannot be explained: {self.refusal}"
        lines.append(_line("blocks", f"{len(self.blocks)}, from {self.blocks[0]} to {self.blocks[-1]}"))
        lines.append(_line("tokens", self._tokens()))
        outside = f"behind or before the blocks, in {', '.join(self.left_out)}" if self.left_out else "none"
        lines.append(_line("left out", outside))
        for title, methods in (("latent token", self.latents), ("class", self.classes)):
            able = [name for name, reason in methods.items() if reason is None]
            if methods:
                lines.append(_line(title, ", ".join(able) or "no method"))
            for reason in dict.fromkeys(reason for reason in methods.values() if reason is not None):
                unable = [name for name, why in methods.items() if why == reason]
                lines.append(_line("", f"not {', '.join(unable)}: {reason}"))
        if self.cost is not None:
            lines.append(
                _line(
                    "cost",
                    f"one token {self.cost.first:.1f} forward passes of {1000 * self.cost.forward:.1f} ms, "
                    f"each further one {self.cost.more:.1f} (ULTra, last layer, measured once)",
                )
            )
        if self.tiles:
            lines.append(_line("long inputs", f"attention's gradients by {self.tiles}"))
        return "\n".join(lines)

    def _tokens(self) -> str:
        assert self.layout is not None
        layout = self.layout
        words = f"{layout.tokens}"
        if layout.grid is not None:
            rows, columns = layout.grid
            words += f": {layout.prefix} before a grid of {rows} x {columns} patches"
            if layout.order is not None:
                words += ", which stand in another order than row by row"
            behind = layout.tokens - layout.prefix - rows * columns
            words += f", and {behind} more that see no patch" if behind else ""
        else:
            words += f"; no map on a picture: {layout.reason}"
        if any(self.padding):
            words += f"; padding of each sample: {', '.join(map(str, self.padding))}"
        return words


def describe(
    model: nn.Module, inputs: Tensor, *, blocks: Blocks | None = None, head: Head | None = None,
    additional_forward_args: Any = None, methods: bool = True, cost: bool = True, show_progress: bool = False,
) -> Description:  # fmt: skip
    """Say what the library makes of a model on an input, by trying it.

    Args:
        model: as in :class:`captum_ultra.LatentTokenAttribution`.
        inputs: as there; one or several samples.
        blocks: as there.
        head: as there.
        additional_forward_args: as there.
        methods: whether every method is tried, on a latent token and on a class.
        cost: whether the cost of explained tokens is measured.
        show_progress: show a progress bar.

    Returns:
        What was found. A model that cannot be explained is no error here: ``refusal`` says why.

    Raises:
        TypeError, ValueError: for arguments.

    Example:
        >>> from captum_ultra.models.vit import ViTConfig, VisionTransformer
        >>> model = VisionTransformer(ViTConfig(dim=16, depth=2, heads=2, cls_token=True))
        >>> print(describe(model, torch.rand(1, 3, 64, 64), methods=False, cost=False))
        VisionTransformer on float32 [1, 3, 64, 64]
        blocks        2, from blocks.0 to blocks.1
        tokens        257: 1 before a grid of 16 x 16 patches
        left out      none
    """
    tensor = checked_inputs(inputs, model)
    shown = f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
    views = ModelViews(model, blocks)
    with tqdm(total=2 * len(METHODS) * methods + cost, disable=not show_progress, unit="try") as bar:
        try:
            with half_precision_explained(model):
                view = views(tensor, additional_forward_args)
                layout = layout_of(view, tensor, additional_forward_args)
                padding = padding_of(view, tensor, additional_forward_args)
        except UnsupportedModelError as error:
            return Description(type(model).__name__, shown, str(error))
        names = {module: name for name, module in model.named_modules()}
        common: dict[str, Any] = {"additional_forward_args": additional_forward_args}

        def tried(arguments: Mapping[str, Any]) -> dict[str, str | None]:
            found = {}
            for name in METHODS:
                method = method_class(name)(model, blocks, head=head)
                found[name] = _why_not(lambda: method.attribute(tensor, **arguments, **common))  # noqa: B023
                bar.update()
            return found

        findings = view.findings
        assert findings is not None
        token = layout.patches[len(layout.patches) // 2] if layout.grid else layout.tokens // 2
        latents = tried({"token": token, "layer": -1, "output": "tokens"}) if methods else {}
        classes = tried({"output": "tokens"}) if methods else {}
        measured = _cost(model, view, tensor, blocks, token, common) if cost and latents.get("gae") is None else None
        bar.update(cost)
    return Description(
        view.name, shown, None, tuple(names.get(block, "?") for block in view.blocks),
        container_name(model, view.blocks), layout, tuple(padding.sum(1).tolist()),
        tuple(each.module for each in findings.outside), latents, classes, measured,
        kernel.status() if cost and tensor.device.type == "cpu" else "",
    )  # fmt: skip


def _why_not(explain: Callable[[], Any]) -> str | None:
    try:
        explain()
    except (ValueError, UnsupportedModelError) as error:
        return str(error)
    return None


def _cost(
    model: nn.Module, view: Any, inputs: Tensor, blocks: Blocks | None, token: int, common: Mapping[str, Any]
) -> Cost:
    method = method_class("gae")(model, blocks)

    def forward() -> None:
        with explaining(view.model, gradients=False):
            view.call(view.model, inputs.clone(), common["additional_forward_args"])

    def explain(targets: int) -> None:
        method.attribute(inputs, token=[token] * targets, layer=-1, output="tokens", **common)

    seconds = [_seconds(each) for each in (forward, lambda: explain(1), lambda: explain(1 + _TARGETS))]
    return Cost(seconds[0], seconds[1] / seconds[0], max(0.0, seconds[2] - seconds[1]) / _TARGETS / seconds[0])


def _seconds(call: Callable[[], None]) -> float:
    taken = []
    for _ in range(3):
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _line(title: str, words: str) -> str:
    return f"{title:14}{words}"
