"""Explain one token of one picture with a model loaded by name."""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from captum_ultra.attr.attribution import DEFAULT_SCORE
from captum_ultra.attr.latent_token import LatentTokenAttribution
from captum_ultra.attr.latents import LatentReader
from captum_ultra.attr.methods import find_method
from captum_ultra.attr.methods.titles import method_title
from captum_ultra.insights.figures import explain_figure
from captum_ultra.io import written_whole
from captum_ultra.models.loader import LoadedModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.Image import Image

__all__ = ["Explanation", "explain_image", "patch_grid", "save_arrays"]


@dataclass(frozen=True)
class Explanation:
    """One map and everything that says what it is.

    Attributes:
        picture: what the model saw, [H, W, 3] in 0..1.
        map: relevance of the input for the token, [H, W].
        grid: (rows, cols) of the patches.
        token: the explained token, an index or a (row, col) patch.
        layer: number of blocks passed, 0..L.
        method: by which the map was made.
        score: the scalar of the latent that was explained.
        model: the model's name.
    """

    picture: NDArray[np.float32]
    map: NDArray[np.float32]
    grid: tuple[int, int]
    token: int | tuple[int, int]
    layer: int
    method: str
    score: str
    model: str

    def figure(self) -> Figure:
        """The picture with the token outlined (if it is a patch) and its map, named."""
        patch = self.token if isinstance(self.token, tuple) else None
        return explain_figure(
            self.picture,
            self.map,
            token=patch,
            grid=self.grid,
            title=f"token {self.token}",
            titles=[f"layer {self.layer}, {method_title(self.method, self.score)}"],
            caption=self.model,
        )

    def save_npz(self, path: Path) -> None:
        """Write map, picture, grid, token, layer, method, score and model; `numpy.load` reads them."""
        save_arrays(self, path)


def explain_image(
    loaded: LoadedModel,
    image: Image,
    token: int | tuple[int, int],
    layer: int,
    *,
    method: str = "ultra",
    score: str = DEFAULT_SCORE,
    blocks: str | None = None,
    interpolation: str = "bilinear",
) -> Explanation:
    """Explain one token of a picture (see `LatentTokenAttribution` for token, layer and score).

    Args:
        loaded: a model that reads images.
        image: of any size; the model's own preprocessing scales and crops it.
        token: index of a token, 0 the first that the model sees, or a (row, col) patch.
        layer: number of blocks passed, negative from the end.
        method: a name that :func:`captum_ultra.attr.methods.find_method` knows.
        score: "sum" or "energy".
        blocks: name of the model's list of blocks, when it is not found automatically.
        interpolation: how the map is enlarged; bilinear does not undershoot beside a peak.

    Raises:
        ValueError: the model reads no images, or there is no such token or layer.
        UnsupportedModelError: the model cannot be explained faithfully.
    """
    if loaded.preprocess is None:
        raise ValueError(f"{loaded.name!r} reads {loaded.kind}, not images; from Python, attribute() takes ids.")
    inputs = loaded.preprocess(image)
    number = LatentReader(loaded.model, layer, blocks).number(inputs)
    explain = find_method(method)(loaded.model, blocks)
    relevance = explain.attribute(inputs, token=token, layer=number, score=score, interpolation=interpolation)
    grid = LatentTokenAttribution(loaded.model, blocks).token_layout(inputs).grid
    assert grid is not None  # or there would be no map
    return Explanation(
        picture=loaded.picture(inputs)[0].numpy(),
        map=relevance[0, 0].numpy(),
        grid=grid,
        token=token,
        layer=number,
        method=method,
        score=score,
        model=loaded.name,
    )


def save_arrays(found: Any, path: Path) -> None:
    """Write the fields of a dataclass as ``.npz``."""
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in vars(found).items()}
    # Given a path, numpy appends .npz to one that ends in .NPZ.
    with written_whole(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, **arrays)


def patch_grid(patches: int, height: int, width: int) -> tuple[int, int]:
    """Rows and columns of square patches that cover an input of H x W pixels.

    Raises:
        ValueError: so many square patches do not cover it.

    Example:
        >>> patch_grid(128, 64, 128)
        (8, 16)
    """
    rows = isqrt(patches * height // width)
    if rows == 0 or patches % rows or rows * width != patches // rows * height:
        raise ValueError(f"{patches} square patches do not cover an input of {height} x {width} pixels.")
    return rows, patches // rows
