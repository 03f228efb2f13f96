"""The demonstration: tokens of a procedural scene, explained over the layers of the shipped model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.attr.attribution import DEFAULT_SCORE
from captum_ultra.attr.methods import find_method
from captum_ultra.attr.methods.titles import method_title
from captum_ultra.data.scenes import Scene
from captum_ultra.experiments.auc import roc_auc
from captum_ultra.insights.comparison_figure import token_methods_figure
from captum_ultra.insights.explain import patch_grid
from captum_ultra.insights.figures import token_layers_figure
from captum_ultra.models.vit import VisionTransformer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["SceneExplanation", "explain_scene", "methods_figure", "object_patches"]


@dataclass(frozen=True)
class SceneExplanation:
    """Maps of several tokens of a scene at every layer, and how well they find the tokens' objects.

    Attributes:
        scene: image and masks.
        grid: (rows, cols) of the patches.
        objects: T numbers of objects in ``scene.instances``.
        tokens: T patches (row, col), each inside its object.
        layers: L numbers of blocks passed.
        maps: [T, L, H, W], at the size of the image.
        auc: [T, L], area under the ROC curve of a map's pixels against the mask of the object.
        method: by which the maps were made.
        score: the scalar of the latent that was explained.
    """

    scene: Scene
    grid: tuple[int, int]
    objects: list[int]
    tokens: list[tuple[int, int]]
    layers: list[int]
    maps: Tensor
    auc: Tensor
    method: str
    score: str

    @property
    def title(self) -> str:
        """The method, and the score that it explains if there is one."""
        return method_title(self.method, self.score)

    @property
    def names(self) -> list[str]:
        """The shapes of the objects under the tokens."""
        return [self.scene.names[number - 1] for number in self.objects]

    def figure(self) -> Figure:
        """Tokens over layers, the AUC in the corner of every map."""
        return token_layers_figure(
            self.scene.image.permute(1, 2, 0).numpy(),
            self.tokens,
            self.maps.numpy(),
            self.layers,
            grid=self.grid,
            score=self.score,
            names=self.names,
            notes=[[f"{value:.2f}" for value in row] for row in self.auc.tolist()],
        )


def methods_figure(found: Sequence[SceneExplanation]) -> Figure:
    """The same tokens by several methods, at the last of their layers, the AUC in the corner of every map."""
    first = found[0]
    return token_methods_figure(
        first.scene.image.permute(1, 2, 0).numpy(),
        first.tokens,
        torch.stack([each.maps[:, -1] for each in found], dim=1).numpy(),
        [each.title.replace(", ", "\n") for each in found],
        grid=first.grid,
        names=first.names,
        notes=[[f"{each.auc[token, -1]:.3f}" for each in found] for token in range(len(first.tokens))],
        caption=f"layer {first.layers[-1]}, ROC-AUC in the corners",
    )


def explain_scene(
    model: VisionTransformer, scene: Scene, *, method: str = "ultra", score: str = DEFAULT_SCORE, tokens: int = 4,
    layers: Sequence[int] | None = None,
) -> SceneExplanation:  # fmt: skip
    """Explain the innermost token of every large object, after each block.

    Args:
        model: takes images of the scene's size.
        scene: see `captum_ultra.data.scenes`.
        method: a name that :func:`captum_ultra.attr.methods.find_method` knows.
        score: "sum" or "energy".
        tokens: at most so many, of the largest objects.
        layers: numbers of blocks passed; 1 to all when None.

    Returns:
        The maps, and their AUC against the masks.

    Example:
        >>> from captum_ultra.data.scenes import render_scene
        >>> from captum_ultra.models.vit import ViTConfig
        >>> model = VisionTransformer(ViTConfig(dim=16, depth=2, heads=2)).eval()
        >>> found = explain_scene(model, render_scene(seed=0, index=0), tokens=2)
        >>> found.maps.shape, found.auc.shape
        (torch.Size([2, 2, 64, 64]), torch.Size([2, 2]))
    """
    inputs = model.preprocess(scene.image[None])
    side = model.image_size // model.patch_size
    grid = patch_grid(side * side, *inputs.shape[-2:])
    objects, patches = object_patches(scene, grid, tokens)
    indices = [model.num_prefix_tokens + row * grid[1] + column for row, column in patches]
    layers = list(layers or range(1, len(model.blocks) + 1))
    maps = find_method(method)(model).attribute(inputs, token=indices, layer=layers, score=score)
    stacked = torch.stack([each[0] for each in maps], dim=1)
    masks = torch.stack([scene.instances == number for number in objects])
    auc = roc_auc(stacked.flatten(2), masks.flatten(1)[:, None].expand(-1, len(layers), -1))
    return SceneExplanation(scene, grid, objects, patches, layers, stacked, auc, method, score)


def object_patches(scene: Scene, grid: tuple[int, int], most: int) -> tuple[list[int], list[tuple[int, int]]]:
    """The largest objects, and of each the patch that lies deepest inside.

    Args:
        scene: its ``instances`` [H, W] say what is seen of every object.
        grid: (rows, cols) of the patches.
        most: number of objects at most.

    Returns:
        Numbers of the objects, and a (row, col) patch for each.

    Raises:
        ValueError: for fewer than one object.
    """
    if most < 1:
        raise ValueError(f"{most} tokens were asked for; at least 1 can be explained.")
    count = len(scene.names)
    visible = F.one_hot(scene.instances, count + 1).permute(2, 0, 1)[1:].float()
    share = F.adaptive_avg_pool2d(visible, grid)
    # Of the patches that are covered, the one whose surroundings are covered most; patches beyond
    # the border of the image count as not covered.
    depth = share + F.avg_pool2d(share, 3, stride=1, padding=1) + F.avg_pool2d(share, 5, stride=1, padding=2)
    largest = visible.sum(dim=(1, 2)).argsort(descending=True)[:most].sort().values.tolist()
    deepest = [divmod(int(depth[number].argmax()), grid[1]) for number in largest]
    return [number + 1 for number in largest], deepest
