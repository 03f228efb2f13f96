"""From relevance rows over tokens to the maps a caller asked for."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from captum_ultra.adapters import TokenLayout

__all__ = ["check_map_options", "finish_rows", "min_max", "with_self_entry"]

_SELF_TOKEN = ("max", "keep", "zero")
_OUTPUT = ("input", "tokens", "patches", "channels")
_INTERPOLATION = ("bicubic", "bilinear", "nearest")


def check_map_options(self_token: str, output: str, interpolation: str, inputs: Tensor, single: bool) -> None:
    """Raise ``ValueError`` for options that do not exist or do not fit the input."""
    options = {"self_token": (self_token, _SELF_TOKEN), "output": (output, _OUTPUT),
               "interpolation": (interpolation, _INTERPOLATION)}  # fmt: skip
    for name, (given, possible) in options.items():
        if given not in possible:
            raise ValueError(f"{name}={given!r} is unknown; possible: {', '.join(map(repr, possible))}")
    if output in ("patches", "channels") and inputs.dim() != 4:
        raise ValueError(
            f'output={output!r} needs images [B, C, H, W], got inputs of shape {list(inputs.shape)}; use "tokens"'
        )
    if output == "channels" and not single:
        raise ValueError('output="channels" has the shape of the input and so holds one map a sample; give one token')


def finish_rows(
    rows: Tensor, indices: Tensor, layout: TokenLayout, inputs: Tensor, self_token: str, output: str,
    interpolation: str, single: bool,
) -> Tensor:  # fmt: skip
    """Rows [B, T, n] of targets [B, T] -> what ``output`` names, the T axis dropped where ``single``.

    The prefix is dropped before the self entry is set, so that the maximum is one of the map.

    Raises:
        ValueError: if a map is asked for and the patch grid is not known.
    """
    is_map = output in ("input", "channels") and inputs.dim() == 4
    shown = layout.patches if is_map or output == "patches" else slice(0, layout.tokens)
    rows = with_self_entry(rows[..., shown], indices - shown.start, self_token)
    if not is_map:
        return (rows[:, 0] if single else rows).contiguous()
    if layout.grid is None:
        raise ValueError(
            f"the patch grid of {layout.tokens} tokens is not known: no convolution made patches, and "
            f'no grid has the aspect ratio of {list(inputs.shape[2:])}; use output="tokens"'
        )
    maps = rows.unflatten(-1, layout.grid)
    smooth = None if interpolation == "nearest" else False
    maps = F.interpolate(maps, size=inputs.shape[2:], mode=interpolation, align_corners=smooth)
    if output == "channels":
        maps = (maps / inputs.shape[1]).expand(-1, inputs.shape[1], -1, -1)
    return maps.contiguous()


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
