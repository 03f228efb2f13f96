"""From relevance rows over tokens to the maps a caller asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from captum_ultra.adapters import TokenLayout

__all__ = ["Presentation", "min_max", "with_self_entry"]

_POSSIBLE = {
    "self_token": ("max", "keep", "zero"),
    "output": ("input", "tokens", "patches", "channels"),
    "interpolation": ("bilinear", "bicubic", "nearest"),
}


@dataclass(frozen=True)
class Presentation:
    """What is made of a row of relevance; checked when made.

    Attributes:
        self_token: what stands at a target's own position: "max" of the other entries, "keep" or "zero".
        output: "input", "tokens", "patches" or "channels".
        interpolation: how maps are enlarged: "bilinear", "bicubic" or "nearest".
        rescale: whether every sample's map is min-max scaled to 0..1.

    Raises:
        ValueError: for a name that does not exist.
    """

    self_token: str = "max"
    output: str = "input"
    interpolation: str = "bilinear"
    rescale: bool = False

    def __post_init__(self) -> None:
        for name, possible in _POSSIBLE.items():
            if getattr(self, name) not in possible:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} is unknown; possible: {', '.join(map(repr, possible))}"
                )

    def check(self, inputs: Tensor, single: bool) -> None:
        """Raise ``ValueError`` for an output that does not fit the input."""
        if self.output in ("patches", "channels") and inputs.dim() != 4:
            raise ValueError(
                f"output={self.output!r} needs images [B, C, H, W], got inputs of shape {list(inputs.shape)}; use "
                '"tokens"'
            )
        if self.output == "channels" and not single:
            raise ValueError(
                'output="channels" has the shape of the input and so holds one map a sample; explain one target'
            )

    def of_pixels(self, inputs: Tensor) -> bool:
        """Whether maps as large as the image are asked for."""
        return self.output in ("input", "channels") and inputs.dim() == 4

    def finish(self, rows: Tensor, own: Tensor | None, layout: TokenLayout, inputs: Tensor, single: bool) -> Tensor:
        """Rows [B, T, n] as the output asked for, the T axis dropped where ``single``.

        The prefix is dropped before the self entry is set, so that the maximum is one of the map.

        Args:
            rows: relevance of the tokens.
            own: the targets' own positions [B, T], None where targets are no tokens.
            layout: of the tokens.
            inputs: that were explained.
            single: whether there is one target a sample.

        Raises:
            ValueError: if a map is asked for and the patch grid is not known.
        """
        is_map = self.of_pixels(inputs)
        shown = layout.patches if is_map or self.output == "patches" else slice(0, layout.tokens)
        rows = rows[..., shown]
        if own is not None:
            rows = with_self_entry(rows, own - shown.start, self.self_token)
        if not is_map:
            return self._rescaled(rows[:, 0] if single else rows)
        if layout.grid is None:
            raise ValueError(
                f"the patch grid of {layout.tokens} tokens is not known: no convolution made patches, and "
                f'no grid has the aspect ratio of {list(inputs.shape[2:])}; use output="tokens"'
            )
        maps = rows.unflatten(-1, layout.grid)
        smooth = None if self.interpolation == "nearest" else False
        maps = F.interpolate(maps, size=inputs.shape[2:], mode=self.interpolation, align_corners=smooth)
        if self.output == "channels":
            maps = (maps / inputs.shape[1]).expand(-1, inputs.shape[1], -1, -1)
        return self._rescaled(maps)

    def finish_pixels(self, relevance: Tensor, single: bool) -> Tensor:
        """Relevance of pixels [B, T, C, H, W] as the map asked for: the channels' own, or their sum."""
        maps = relevance.sum(2) if self.output == "input" else relevance[:, 0]
        return self._rescaled(maps)

    def _rescaled(self, maps: Tensor) -> Tensor:
        return (min_max(maps) if self.rescale else maps).contiguous()


def with_self_entry(rows: Tensor, indices: Tensor, self_token: str) -> Tensor:
    """Replace each row's entry at its own token; tokens outside the columns have none."""
    if self_token == "keep":
        return rows
    inside = (indices >= 0) & (indices < rows.shape[-1])
    columns = indices.where(inside, 0).unsqueeze(-1)
    own = rows.gather(-1, columns)
    others = rows.scatter(-1, columns, -float("inf")).amax(-1, keepdim=True) if rows.shape[-1] > 1 else own * 0
    value = others if self_token == "max" else own * 0
    return rows.scatter(-1, columns, value.where(inside.unsqueeze(-1), own))


def min_max(maps: Tensor) -> Tensor:
    """Every sample of [B, ...] scaled to 0..1; a constant map becomes zero.

    Example:
        >>> import torch
        >>> min_max(torch.tensor([[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]]))
        tensor([[0.0000, 0.5000, 1.0000],
                [0.0000, 0.0000, 0.0000]])
    """
    flat = maps.flatten(1)
    low, high = flat.amin(1, keepdim=True), flat.amax(1, keepdim=True)
    span = (high - low).where(high > low, high.new_ones(()))
    return ((flat - low) / span).view_as(maps)
