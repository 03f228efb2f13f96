"""A sheet of held-out scenes: image, true regions, and the regions that several methods find.

python -m captum_ultra.experiments.segmentation_sheet --output docs/images/scene_segmentation.png
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from captum_ultra.data import Scenes
from captum_ultra.experiments.segmentation_methods import Sight, check_scikit_learn, segment_scene
from captum_ultra.experiments.segmentation_tables import miou
from captum_ultra.insights.palette import paint
from captum_ultra.metrics.matching import class_confusion, contingency, match_clusters
from captum_ultra.models.vit import VisionTransformer, scenes_vit

__all__ = ["SHOWN", "draw_sheet"]

SHOWN = (
    ("ULTra_E", 6),
    ("ULTra_S", 6),
    ("rollout", 6),
    ("raw attention", 6),
    ("k-means of latents", 6),
    ("k-means of pixels", 0),
)


def draw_sheet(model: VisionTransformer, scenes: Scenes, shown: Sequence[tuple[str, int]] = SHOWN) -> Any:
    """A matplotlib figure with one scene a column; image, truth and methods as rows.

    Clusters have the colour of the region that they are matched to; those without a region have colours of their
    own. Below every panel stands its U.mIoU. The number of regions is given (oracle).

    Args:
        model: of the scenes.
        scenes: to show, all of them; noisy ones are shown as the model sees them.
        shown: methods and their layers, from top to bottom.
    """
    from matplotlib.figure import Figure

    names = ["image", "true regions", *(f"{method}\nlayer {layer}" if layer else method for method, layer in shown)]
    figure = Figure(figsize=(1.35 * len(scenes) + 0.5, 1.5 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), len(scenes), squeeze=False)
    for axis, name in zip(axes[:, 0], names, strict=True):
        axis.set_ylabel(name, fontsize=8)
    for index, column in enumerate(axes.T):
        sight = Sight(model, scenes[index], {})
        target = sight.scene.instances
        column[0].imshow(sight.scene.image.clamp(0, 1).permute(1, 2, 0).numpy())
        column[1].imshow(paint(target.numpy()), interpolation="nearest")
        for axis, (method, layer) in zip(column[2:], shown, strict=True):
            labels, score = _matched(segment_scene(sight, method, layer).labels, target)
            axis.imshow(paint(labels.numpy()), interpolation="nearest")
            axis.set_xlabel(f"{score:.2f}", fontsize=7, labelpad=1)
        for axis in column:
            axis.set(xticks=[], yticks=[])
    return figure


def _matched(labels: Tensor, target: Tensor) -> tuple[Tensor, float]:
    """Labels renumbered as the regions that they are matched to, and their U.mIoU."""
    clusters, regions = int(labels.max()) + 1, int(target.max()) + 1
    counts = contingency(labels, target, clusters, regions, ignore_index=None)
    match = match_clusters(counts)
    score = miou({"confusion": class_confusion(counts, match).tolist()})
    return match.where(match >= 0, regions + torch.arange(clusters))[labels], score


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("out/scene_segmentation.png"))
    parser.add_argument("--scenes", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--noise", type=float, default=0.0, help="standard deviation, pixels being in 0..1")
    args = parser.parse_args()
    check_scikit_learn()
    figure = draw_sheet(scenes_vit(), Scenes(args.scenes, args.seed, noise=args.noise))
    args.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(args.output, dpi=110)
    print(args.output)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
