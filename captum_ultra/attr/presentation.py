"""From relevance rows over tokens to the maps a caller asked for."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.adapters import TokenLayout
from captum_ultra.errors import warn_caller

__all__ = ["Presentation", "min_max", "with_self_entry"]

_DROWNED = 0.1  # a smaller part of a map than this is not seen beside the rest
_HARDLY = 0.001  # and is little to go by if the rest is left out
_FLAT = 1e-3  # a map whose highest value exceeds its lowest by a smaller part than this says nothing

_POSSIBLE = {
    "self_token": ("max", "keep", "zero"),
    "output": ("input", "tokens", "patches", "channels"),
    "interpolation": ("bilinear", "bicubic", "nearest"),
}


@dataclass(frozen=True)
class Presentation:
    """What is made of a row of relevance; checked when made.

    Attributes:
        self_token: what stands at a target's own position: "max" of the other entries, "keep" or "zero". Of a class
            that is read at several patches, "keep" adds what each of them keeps to itself, which is else left out.
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

    def check_layout(self, layout: TokenLayout, inputs: Tensor) -> None:
        """Raise ``ValueError`` where a map is asked for, and the patches form no grid."""
        if layout.grid is None and (self.of_pixels(inputs) or self.output == "patches"):
            raise ValueError(
                f"there is no map on the picture, as the patch grid of {layout.tokens} tokens is not known: "
                f'{layout.reason}; use output="tokens"'
            )

    def of_pixels(self, inputs: Tensor) -> bool:
        """Whether maps as large as the image are asked for."""
        return self.output in ("input", "channels") and inputs.dim() == 4

    def finish(self, rows: Tensor, own: Tensor | None, layout: TokenLayout, inputs: Tensor, single: bool) -> Tensor:
        """Rows [B, T, n] as the output asked for, the T axis dropped where ``single``.

        The prefix is dropped before the self entry is set, so that the maximum is one of the map.

        Args:
            rows: relevance of the tokens.
            own: the targets' own positions [B, T]; of a class read at several patches what these keep to themselves
                [B, T, n], floating point, which is no part of the rows; None where there is neither.
            layout: of the tokens.
            inputs: that were explained.
            single: whether there is one target a sample.
        """
        is_map = self.of_pixels(inputs)
        if own is not None and own.is_floating_point():
            _tell_of_kept(rows, own, self.self_token == "keep")
            rows = rows + own if self.self_token == "keep" else rows
            own = None
        if is_map or self.output == "patches":
            shown = torch.tensor(layout.patches, device=rows.device)
            rows = rows[..., shown]
            if own is not None:  # the place among the patches, or none
                places = torch.full((layout.tokens,), -1, device=rows.device)
                own = places.scatter(0, shown, torch.arange(len(shown), device=rows.device))[own]
        if own is not None:
            rows = with_self_entry(rows, own, self.self_token)
        if not is_map:
            return self._rescaled(rows[:, 0] if single else rows)
        assert layout.grid is not None  # checked before the model ran
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


def _tell_of_kept(rows: Tensor, kept: Tensor, keep: bool) -> None:
    """Say what the patches where a class is read, which keep a part of relevance [B, T, n], leave to be seen."""
    read = kept > 0
    shares = rows.where(read, 0).sum(-1) / (rows + kept).where(read, 0).sum(-1)  # [B, T], NaN where there are none
    least = shares.nan_to_num(nan=1).amin().item()
    patches = int(read.sum(-1).amax())
    lowest, highest = rows.where(read, torch.inf).amin(-1), rows.where(read, -torch.inf).amax(-1)
    flat = (highest - lowest <= _FLAT * highest.abs()) & read.any(-1)
    if keep and least < _DROWNED:
        warn_caller(
            f'self_token="keep": what the {patches} patches where the class is read keep to themselves, whatever the '
            f"class, is all but {least:.0e} of a map, and drowns the rest; leave self_token out to see it"
        )
    elif flat.any():
        warn_caller(
            f"nothing is left in {int(flat.sum())} of {flat.numel()} maps: the class is read at {patches} patches, and "
            "attention passes on nothing, or the same of each, that is for it. What they hold themselves is evidence "
            "that this method does not see: take ConservativeLRP or ResidualLRP"
        )
    elif least < _HARDLY:
        warn_caller(
            f"little is left in a map, {least:.0e} of its relevance: the class is read at {patches} patches, and what "
            "they keep to themselves, whatever the class, is left out. Evidence that they hold themselves is not seen "
            "by this method: compare with ConservativeLRP or ResidualLRP"
        )


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
