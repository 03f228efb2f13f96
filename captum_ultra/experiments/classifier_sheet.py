"""A sheet of object scenes: image, object, the same scene without it, and with the object woven anew.

python -m captum_ultra.experiments.classifier_sheet --output docs/images/classifier_scenes.png
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from captum_ultra.data.object_scenes import ObjectScenes, render_object_scene
from captum_ultra.experiments.classifier_check import classify
from captum_ultra.models.vit_classifier import ViTClassifier, scenes_classifier

__all__ = ["draw_sheet"]

ROWS = ("scene", "object", "without it", "woven anew")


def draw_sheet(model: ViTClassifier, scenes: ObjectScenes) -> Any:
    """A matplotlib figure with one scene a column; above the images, the answer of the model.

    Args:
        model: in eval mode, of the scenes' size.
        scenes: what to show, all of them.

    Returns:
        A ``matplotlib.figure.Figure``.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.4 * len(scenes) + 0.4, 1.65 * len(ROWS)), layout="constrained")
    axes = figure.subplots(len(ROWS), len(scenes), squeeze=False)
    for index, column in enumerate(axes.T):
        scene = scenes[index]
        other = model.classes[(scene.label + 1) % model.num_classes]
        without, swapped = (
            render_object_scene(scenes.seed, index, scenes.size, split=scenes.split, **change)
            for change in ({"present": False}, {"weave": other})
        )
        pictures = {"scene": scene.image, "without it": without.image, "woven anew": swapped.image}
        for axis, row in zip(column, ROWS, strict=True):
            axis.set_xticks([])
            axis.set_yticks([])
            if row == "object":
                axis.imshow(scene.mask.numpy(), cmap="gray")
                axis.set_title(scene.name, fontsize=8)
                continue
            axis.imshow(pictures[row].permute(1, 2, 0).numpy())
            axis.set_title(f"\u201c{model.classes[int(classify(model, pictures[row][None]))]}\u201d", fontsize=8)
    for axis, row in zip(axes[:, 0], ROWS, strict=True):
        axis.set_ylabel(row, fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/classifier_scenes.png"))
    parser.add_argument("--scenes", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    model = scenes_classifier()
    figure = draw_sheet(model, ObjectScenes(args.scenes, args.seed, model.image_size))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.output, dpi=110)
    print(args.output)


if __name__ == "__main__":
    main()
