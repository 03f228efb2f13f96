"""The maps of all patches of an image, over layers and methods, for a page to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_ultra.adapters import Blocks
from captum_ultra.attr.latent_token import LatentTokenAttribution
from captum_ultra.attr.latents import LatentReader
from captum_ultra.insights.explorer.methods import Method, rows_of_methods
from captum_ultra.insights.explorer.packing import Blob, is_signed, quantised

__all__ = ["ImageMaps", "image_maps", "layer_numbers", "linkage_merges"]


@dataclass(frozen=True, eq=False)
class ImageMaps:
    """What a page shows of one model and one image, with P patches.

    Attributes:
        name: of the model.
        picture: what the model saw, [H, W, 3] in 0..1.
        grid: (rows, columns) of the patches.
        layers: numbers of blocks passed.
        methods: labels.
        maps: for each (label, layer) float32 [P, P]; row i is the map of patch i.
        merges: for each (label, layer) the linkage tree [P - 1, 4] of the maps; empty without segmentation.
    """

    name: str
    picture: NDArray[np.float32]
    grid: tuple[int, int]
    layers: tuple[int, ...]
    methods: tuple[str, ...]
    maps: Mapping[tuple[str, int], NDArray[np.float32]]
    merges: Mapping[tuple[str, int], NDArray[np.float64]]

    kind = "image"

    def packed(self, blob: Blob, levels: int) -> dict[str, Any]:
        """What the page is told, with the places of the numbers in a blob."""
        from captum_ultra.insights.explorer.pictures import data_url

        described: list[dict[str, Any]] = []
        for method in self.methods:
            signed = is_signed(np.stack([self.maps[method, layer] for layer in self.layers]))
            places = []
            for layer in self.layers:
                steps, scales = quantised(self.maps[method, layer], levels, signed)
                places.append({"steps": blob.add(steps), "scales": blob.add(scales)})
                if (method, layer) in self.merges:
                    merges = self.merges[method, layer]
                    places[-1]["joins"] = blob.add(merges[:, :2].astype(np.uint32))
                    places[-1]["heights"] = blob.add(merges[:, 2].astype(np.float64))
            described.append({"label": method, "signed": signed, "layers": places})
        height, width = self.picture.shape[:2]
        return {
            "name": self.name, "picture": data_url(self.picture), "size": [height, width], "grid": list(self.grid),
            "layers": list(self.layers), "methods": described, "levels": levels,
        }  # fmt: skip


def image_maps(
    model: nn.Module, inputs: Tensor, layers: Sequence[int] | None, methods: Mapping[str, Method], *, name: str,
    picture: NDArray[np.float32], segmentation: bool = True, blocks: Blocks | None = None,
    show_progress: bool = False,
) -> ImageMaps:  # fmt: skip
    """Explain every patch of an image [1, C, H, W] at every layer with every method.

    Args:
        model: a vision transformer.
        inputs: [1, C, H, W], normalised as the model expects.
        layers: numbers of blocks passed, negative from the end; all when None.
        methods: by label, as :func:`named_methods` gives them.
        name: of the model.
        picture: what the model saw, [H, W, 3] in 0..1.
        segmentation: make the linkage trees.
        blocks: as in :class:`captum_ultra.LatentTokenAttribution`.
        show_progress: show a progress bar over the tokens.

    Raises:
        ValueError: for layers that do not exist, an image without a patch grid, or maps of another shape.
        MissingExtraError: if scipy is missing and segmentation is wanted.
    """
    from captum_ultra.segmentation.linkage import check_scipy

    if segmentation:
        check_scipy()
    if inputs.dim() != 4 or len(inputs) != 1:
        raise ValueError(f"inputs must be one image [1, C, H, W], got the shape {list(inputs.shape)}")
    grid = LatentTokenAttribution(model, blocks).token_layout(inputs).grid
    if grid is None:
        raise ValueError("the patch grid of this model is not known, so that its maps have no place in the image")
    numbers = layer_numbers(layers, model, inputs, blocks)
    maps = rows_of_methods(
        methods, model, blocks, inputs, numbers, (grid[0] * grid[1],) * 2, token="patches", output="patches",
        show_progress=show_progress,
    )  # fmt: skip
    size = (picture.shape[0], picture.shape[1])
    merges = {key: linkage_merges(each, grid, size) for key, each in maps.items()} if segmentation else {}
    return ImageMaps(name, picture, (grid[0], grid[1]), numbers, tuple(methods), maps, merges)


def layer_numbers(
    layers: Sequence[int] | None, model: nn.Module, inputs: Tensor, blocks: Blocks | None
) -> tuple[int, ...]:
    """Layers as numbers of blocks passed, in ascending order, each once; 1 to L for None.

    Raises:
        ValueError: for an empty list, or a layer that does not exist.
    """
    if layers is None:
        return tuple(range(1, LatentReader(model, -1, blocks).number(inputs) + 1))
    numbers = sorted({LatentReader(model, layer, blocks).number(inputs) for layer in layers})
    if not numbers:
        raise ValueError("layers: an empty list was given; name at least one layer, or None for all")
    return tuple(numbers)


def linkage_merges(maps: NDArray[np.float32], grid: tuple[int, int], size: tuple[int, int]) -> NDArray[np.float64]:
    """The linkage of maps [P, P], compared as the segmenter compares them."""
    import torch

    from captum_ultra.segmentation.record import Segmentation
    from captum_ultra.segmentation.rule import SegmentationRule

    rows = torch.from_numpy(maps).unflatten(-1, grid)[None]
    return Segmentation.of(rows, n_clusters=1, rule=SegmentationRule(size=size)).trees[0].merges
