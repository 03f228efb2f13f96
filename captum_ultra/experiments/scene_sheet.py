"""A sheet of held-out scenes: image, masks, and the map of one token by several methods.

python -m captum_ultra.experiments.scene_sheet --output docs/scenes.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra.data import Scene, Scenes
from captum_ultra.experiments.scene_localisation import all_rows, targets
from captum_ultra.models.vit import VisionTransformer, scenes_vit

__all__ = ["draw_sheet"]

MAPS = ("ULTra_E", "ULTra_S", "cosine of latents", "patch colour")


def draw_sheet(model: VisionTransformer, scenes: Scenes, layer: int, noise: float = 0.0) -> Any:
    """A matplotlib figure with one scene a column and image, masks and maps as rows.

    Args:
        model: a :class:`VisionTransformer`.
        scenes: clean scenes to show, all of them.
        layer: blocks passed by the explained tokens, from 1.
        noise: standard deviation, pixels in 0..1, of what the model sees (the image row shows it).

    Returns:
        A ``matplotlib.figure.Figure``. Every map is scaled to its own range on the patch grid; the
        target is the white square.
    """
    from matplotlib.figure import Figure

    noisy = Scenes(len(scenes), scenes.seed, scenes.size, noise)
    names = ("image", "objects", *(f"{name}, layer {layer}" for name in MAPS[:-1]), MAPS[-1])
    figure = Figure(figsize=(1.5 * len(scenes) + 0.9, 1.5 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(scenes), squeeze=False)
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name, fontsize=8)
    for index, column in enumerate(axes.T):
        scene = noisy[index]
        tokens, _ = targets(scene, model.patch_size, 1, seed=0)
        token = tokens[:1]
        panels = [scene.image.clamp(0, 1).permute(1, 2, 0), masked(scene)]
        panels += maps_of(model, scene, token, layer)
        for axis, panel in zip(column, panels, strict=True):
            axis.imshow(panel.numpy(), cmap="viridis", extent=(0, scenes.size, scenes.size, 0))
            axis.set_xticks([])
            axis.set_yticks([])
            mark(axis, int(token), model)
    return figure


def maps_of(model: VisionTransformer, scene: Scene, token: Tensor, layer: int) -> list[Tensor]:
    """The maps of MAPS on the patch grid; a target's own entry is set to the next best."""
    side = model.image_size // model.patch_size
    found = {}
    for name, at, row in all_rows(model, scene.image, token):
        if at in (layer, 0) and name in MAPS:
            others = row.scatter(1, token[:, None], float("-inf"))
            found[name] = row.scatter(1, token[:, None], others.amax(1, keepdim=True)).view(side, side)
    return [found[name].detach() for name in MAPS]


def masked(scene: Scene) -> Tensor:
    """The mean colour of every object over a white background: [H, W, 3]."""
    picture = torch.ones(*scene.instances.shape, 3)
    one_hot = F.one_hot(scene.instances).bool()
    for instance in range(1, one_hot.shape[-1]):
        inside = one_hot[..., instance]
        picture[inside] = scene.image[:, inside].mean(1).clamp(0, 1)
    return picture


def mark(axis: Any, token: int, model: VisionTransformer) -> None:
    from matplotlib.patches import Rectangle

    row, column = divmod(token, model.image_size // model.patch_size)
    corner, width = (column * model.patch_size, row * model.patch_size), model.patch_size
    axis.add_patch(Rectangle(corner, width, width, fill=False, edgecolor="black", linewidth=2.5))
    axis.add_patch(Rectangle(corner, width, width, fill=False, edgecolor="white", linewidth=1.2))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/scenes.png"))
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layer", type=int, default=4)
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation, pixels being in 0..1")
    args = parser.parse_args()
    figure = draw_sheet(scenes_vit(), Scenes(args.scenes, args.seed), args.layer, args.noise)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.output, dpi=110)
    print(args.output)


if __name__ == "__main__":
    main()
