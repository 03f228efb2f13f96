"""Models that stand for shapes which are easily taken for what they are not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from tools.families.case import Case, floats, text
from tools.families.zoo.oddities import ATTEND, BESIDE, HEADS, WIDTH, Block
from tools.families.zoo.patches import Pictures

PLAIN = ("nn.MultiheadAttention", "sequence first inside", "one head", "gate", "post-norm", "parallel",
         "residual in place", "returns a tuple")  # fmt: skip
EXACT = {
    "", "softmax", "talking heads before the softmax", "top-k before the softmax", "sink", "einsum",
    "values scaled by key", "batch norm", "windows by a mask", *PLAIN,
}  # fmt: skip
EITHER = {"differential attention, one fused call", "takes the first latents", "first latents", "values scaled by key",
          "residual in place"}  # fmt: skip
ELSEWHERE = ("memory", "keys in reverse", "ends at the next token", "convolved projections",
             "takes the first latents")  # fmt: skip
ORDERS = {
    "rows": "exact", "columns": "", "merged two by two": "", "backwards": "", "snake": "",
    "two inner patches swapped": "",
    "shuffled at each run": "refused", "some dropped": "", "CLS in the middle": "", "a convolution elsewhere": "exact",
    "mixed beforehand": "", "learned latents": "refused",
}  # fmt: skip


class Text(nn.Module):
    """A chain of blocks over ids; ``route`` says how the stream goes from one to the next."""

    def __init__(self, oddity: str = "", route: str = "", depth: int = 4) -> None:
        super().__init__()
        self.oddity, self.route = oddity, route
        self.embed, self.other = nn.Embedding(50, WIDTH), nn.Embedding(50, WIDTH)
        self.positions = nn.Parameter(torch.empty(1, 10, WIDTH))
        self.blocks = nn.ModuleList([Block(oddity) for _ in range(depth)])
        self.joins = nn.ModuleList([nn.Linear(2 * WIDTH, WIDTH) for _ in range(depth)])
        self.head = nn.Linear(WIDTH, 50)

    def forward(self, ids: Tensor) -> Tensor:
        first = x = self.embed(ids) + self.positions
        if self.route == "random embedding":
            x = x + torch.randn_like(x)
        memory, kept = self.other(ids.flip(1)), []
        for i, block in enumerate(self.blocks):
            kept.append(x)
            if self.route == "U-Net, added" and i >= 2:
                x = x + kept[3 - i]
            if self.route == "U-Net, joined" and i >= 2:
                x = self.joins[i](torch.cat([x, kept[3 - i]], -1))
            if self.route == "shifted between blocks" and i:
                x = x.roll(1, 1)
            if self.route == "linear between blocks":
                x = self.joins[i](torch.cat([x, x], -1))
            if self.route == "dense":
                x = torch.stack(kept).mean(0)
            x = block(x, memory=memory, first=first)
            x = x[0] if isinstance(x, tuple) else x
            if self.route == "scaled between blocks":
                x = 0.5 * x
        if self.route == "blocks again":
            for block in self.blocks:
                x = block(x, memory=memory, first=first)
        return self.head(x)


class Masked(nn.Module):
    """Vectors with padding; ``padding`` [B, N] is True where torch's convention says so, or where a token is seen."""

    def __init__(self, seen: bool = False) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(WIDTH, HEADS, 48, batch_first=True, norm_first=True)
        self.seen, self.encoder = seen, nn.TransformerEncoder(layer, 3, enable_nested_tensor=False)

    def forward(self, x: Tensor, padding: Tensor | None = None) -> Tensor:
        if padding is not None:
            padding = ~padding.bool() if self.seen else padding.bool()
        return self.encoder(x, src_key_padding_mask=padding)


class Stream(nn.Module):
    """Blocks over a stream that is not [B, n, d]."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.blocks = kind, nn.ModuleList([_Reshaped(kind) for _ in range(2)])

    def forward(self, x: Tensor) -> Tensor:
        x = {"channels first": lambda: x.transpose(1, 2), "tokens first": lambda: x.transpose(0, 1),
             "a grid": lambda: x.unflatten(1, (2, 5))}[self.kind]()  # fmt: skip
        for block in self.blocks:
            x = block(x)
        return x


class _Reshaped(Block):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind

    def forward(self, x: Tensor, *_: Any) -> Tensor:
        if self.kind == "a grid":
            return super().forward(x.flatten(1, 2)).unflatten(1, (2, 5))
        axes = (1, 2) if self.kind == "channels first" else (0, 1)
        return super().forward(x.transpose(*axes)).transpose(*axes)


def cases() -> Iterator[Case]:
    for oddity in ("", *ATTEND, *BESIDE, *ELSEWHERE, *PLAIN):
        expected = "" if oddity in EITHER else "exact" if oddity in EXACT else "refused"
        yield Case(f"block: {oddity or 'plain'}", "self-made blocks", partial(Text, oddity), text, expected)
    for route, expected in (
        ("U-Net, added", "refused"), ("U-Net, joined", "refused"), ("dense", "refused"), ("blocks again", "refused"),
        ("shifted between blocks", "refused"), ("linear between blocks", "exact"), ("scaled between blocks", "exact"),
        ("random embedding", "refused"),
    ):  # fmt: skip
        yield Case(f"stream: {route}", "self-made streams", partial(Text, "", route), text, expected)
    for kind in ("channels first", "tokens first", "a grid"):
        yield Case(
            f"stream: {kind}", "self-made streams", partial(Stream, kind), partial(floats, 2, 10, WIDTH), "refused"
        )
    yield from _given_blocks()
    yield from _masks()
    for order, expected in ORDERS.items():
        yield _pictures(f"patches: {order}", expected, order)
    yield _pictures("patches: cut, rows", "exact", cut=True)
    yield _pictures("patches: cut, columns", "", "columns", cut=True)
    yield _pictures("patches: cut, CLS last", "exact", cut=True, before=0, behind=1)
    yield _pictures("patches: CLS last", "exact", before=0, behind=1)
    yield _pictures("patches: cut, nine before", "exact", cut=True, before=9)
    yield _pictures("patches: cut, registers on both sides", "exact", cut=True, before=2, behind=3)


def _pictures(name: str, expected: str, order: str = "rows", **settings: Any) -> Case:
    size = (32, 32) if "nine" in name else (32, 48)
    return Case(name, "self-made patches", partial(Pictures, order, **settings), partial(floats, 2, 3, *size), expected)


def _given_blocks() -> Iterator[Case]:
    given: dict[str, tuple[Callable[[Any], Any], str]] = {
        "all": (lambda model: list(model.blocks), "exact"),
        "the first two of four": (lambda model: list(model.blocks)[:2], "exact"),
        "every second": (lambda model: list(model.blocks)[::2], "refused"),
        "the last two of four": (lambda model: list(model.blocks)[2:], ""),
        "all but one inside": (lambda model: [model.blocks[i] for i in (0, 1, 3)], "refused"),
        "their attentions": (lambda model: [each.attention for each in model.blocks], "refused"),
        "backwards": (lambda model: list(model.blocks)[::-1], "refused"),
    }
    for name, (blocks, expected) in given.items():
        yield Case(f"blocks=: {name}", "self-made streams", Text, text, expected, blocks=blocks)
    for oddity in ("talking heads after the softmax", "depthwise convolution", "differential attention"):
        yield Case(f"blocks=: {oddity}", "self-made streams", partial(Text, oddity), text, "refused", blocks="blocks")


def _masks() -> Iterator[Case]:
    inputs = partial(floats, 2, 10, WIDTH)

    def padding() -> Tensor:
        return torch.arange(10).expand(2, 10) >= torch.tensor([[10], [7]])

    for kind, seen in (("True = padding", False), ("True = seen", True)):
        mask = padding if not seen else lambda: ~padding()
        for given, extra in (
            ("by position", lambda mask=mask: (mask(),)),
            ("by name", lambda mask=mask: {"padding": mask()}),
        ):
            yield Case(
                f"mask: {kind}, {given}", "self-made streams", partial(Masked, seen), inputs, "exact", extra=extra
            )
