"""The relevance between all tokens of a text, over layers and methods, for a page to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from captum_ultra.adapters import Blocks
from captum_ultra.adapters.text import input_device
from captum_ultra.attr.contribution.documents import check_text, padded, span_document
from captum_ultra.attr.contribution.token_contribution import TokenContribution
from captum_ultra.insights.explorer.images import layer_numbers
from captum_ultra.insights.explorer.methods import Method, rows_of_methods
from captum_ultra.insights.explorer.packing import Blob, is_signed, quantised
from captum_ultra.insights.explorer.pieces import pieces_of
from captum_ultra.texts.tokens import TokenizedText, tokenize, tokens_of_parts, warn_of_unknown

__all__ = ["TextMaps", "text_maps"]

Part = tuple[str, str]


@dataclass(frozen=True, eq=False)
class TextMaps:
    """What a page shows of one model and one text, with N tokens of which T are explained.

    Attributes:
        name: of the model.
        parts: (label, text) of the parts, one behind the other: context, separator and summary, or one text.
        tokens: of the whole text.
        targets: T positions of the explained tokens.
        layers: numbers of blocks passed.
        methods: labels.
        maps: for each (label, layer) float32 [T, N]; row i is what token ``targets[i]`` rests on.
    """

    name: str
    parts: tuple[Part, ...]
    tokens: TokenizedText
    targets: tuple[int, ...]
    layers: tuple[int, ...]
    methods: tuple[str, ...]
    maps: Mapping[tuple[str, int], NDArray[np.float32]]

    kind = "text"

    @property
    def sink(self) -> int | None:
        """The first token, in which models park attention; None if the text has only one."""
        return 0 if len(self.tokens) > 1 else None

    def packed(self, blob: Blob, levels: int) -> dict[str, Any]:
        """What the page is told, with the places of the numbers in a blob."""
        described: list[dict[str, Any]] = []
        for method in self.methods:
            signed = is_signed(np.stack([self.maps[method, layer] for layer in self.layers]))
            places = []
            for layer in self.layers:
                steps, scales = quantised(self.maps[method, layer], levels, signed)
                places.append({"steps": blob.add(steps), "scales": blob.add(scales)})
            described.append({"label": method, "signed": signed, "layers": places})
        return {
            "name": self.name, "tokens": len(self.tokens), "targets": list(self.targets), "sink": self.sink,
            "names": list(self.tokens.names), "special": [int(each) for each in self.tokens.special],
            "parts": pieces_of(self.parts, self.tokens), "layers": list(self.layers), "methods": described,
            "levels": levels,
        }  # fmt: skip


def text_maps(
    model: nn.Module, tokenizer: Any, parts: Sequence[Part], layers: Sequence[int] | None,
    methods: Mapping[str, Method], *, name: str, targets: str = "all", blocks: Blocks | None = None,
    show_progress: bool = False,
) -> TextMaps:  # fmt: skip
    """Explain the tokens of a text by all tokens, the first one included.

    A token's own entry, which the residual connection fills with a one, is left out: the page outlines the token.

    Args:
        model: a language model, causal or an encoder.
        tokenizer: its fast tokenizer; None takes the one that the model carries.
        parts: (label, text), joined as they are.
        layers: numbers of blocks passed, negative from the end; all when None.
        methods: by label, as :func:`named_methods` gives them; maps that are there are [T, N].
        name: of the model.
        targets: "all" tokens, or those of the "last" part.
        blocks: as in :class:`captum_ultra.TokenContribution`.
        show_progress: show a progress bar over the tokens.

    Raises:
        ValueError: for blank texts and layers that do not exist.
        TypeError: for an attribution object that is not of this package.
        UnsupportedModelError: for models that cannot be explained faithfully.
    """
    for label, text in parts:
        if label != "separator":
            check_text(text, label)
    reader = TokenContribution(model, tokenizer, blocks).tokenizer
    text = "".join(each for _, each in parts)
    tokens = tokenize(reader, text)
    last = tokens_of_parts(tokens, [len(each) for _, each in parts])[-1]
    asked = list(range(len(tokens))) if targets == "all" else last
    warn_of_unknown(tokens, reader)
    ids, _, _ = padded([span_document(reader, text, asked, None, "token", "keep")], reader, model)
    ids = ids.to(input_device(model))
    numbers = layer_numbers(layers, model, ids, blocks)
    maps = rows_of_methods(
        methods, model, blocks, ids, numbers, (len(asked), len(tokens)), token=asked, output="tokens",
        self_token="zero", show_progress=show_progress,
    )  # fmt: skip
    return TextMaps(name, tuple(parts), tokens, tuple(asked), numbers, tuple(methods), maps)
