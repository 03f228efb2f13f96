"""What segmentation costs beside the maps it rests on, and what its shortcuts lose.

    python -m benchmarks.segmentation              # seconds an image: maps, clustering, the rest
    python -m benchmarks.segmentation --agreement  # clusters of grid maps beside clusters of enlarged maps
    python -m benchmarks.segmentation --landmarks  # maps of some tokens in place of all, on a large grid

Speed is measured on timm's ViT-S/16 at 224 with random weights (time does not ask what weights mean),
agreement and loss on held-out scenes with the shipped ViT. For a large grid that ViT is given scenes of
128 x 128 pixels, its learned positions enlarged bicubically from 16 x 16 to 32 x 32; it was not trained at
that size. k is the number of regions of the ground truth: an oracle. mIoU is the mean over scenes of the
per-image matched mIoU against the regions, with its standard error. Seconds are those of the processor,
which other work on the machine lengthens little; with ``--threads 1`` they are seconds of the clock as well.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from captum_ultra import LatentTokenAttribution
from captum_ultra.data import Scenes
from captum_ultra.metrics import MatchedSegmentation
from captum_ultra.models.torchvision_shim import ensure_torchvision_imports
from captum_ultra.models.vit import VisionTransformer, scenes_vit
from captum_ultra.segmentation import LatentTokenSegmenter, LinkageTree, Segmentation, SegmentationRule, gt_unique
from captum_ultra.segmentation.enlarging import isometric
from captum_ultra.segmentation.linkage import cosine_distances

LARGE = 128


def seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


class Timed(LatentTokenAttribution):
    """Notes how long every call takes."""

    taken = 0.0

    def attribute(self, *args: Any, **kwargs: Any) -> Any:
        start = time.process_time()
        maps = super().attribute(*args, **kwargs)
        self.taken = time.process_time() - start
        return maps


def split_table(rounds: int, clusters: int = 10) -> None:
    """Medians over rounds; what is neither maps nor clustering: the grid's layout, the cut, the drawing."""
    ensure_torchvision_imports()
    import timm

    model, image = timm.create_model("vit_small_patch16_224").eval(), torch.randn(1, 3, 224, 224)
    segmenter = LatentTokenSegmenter(model, n_clusters=clusters)
    segmenter._explain = explain = Timed(model)
    maps = segmenter.segment(image).maps[0].double()

    def cluster() -> None:
        LinkageTree.of(cosine_distances(isometric(maps, (224, 224), "bilinear").flatten(1)))

    cluster()
    rows = []
    for _ in tqdm(range(rounds), desc="rounds"):
        whole = seconds(lambda: segmenter.segment(image))
        rows.append((explain.taken, seconds(cluster), whole))
    explained, clustered, whole = (statistics.median(each) for each in zip(*rows, strict=True))
    rest = statistics.median(row[2] - row[0] - row[1] for row in rows)
    share = statistics.median((row[2] - row[0]) / row[0] for row in rows)
    print("timm ViT-S/16, 224 x 224, 196 maps, CPU seconds an image\n")
    print("| maps | clustering | the rest | whole | all but the maps, of the maps |")
    print("|---|---|---|---|---|")
    print(f"| {explained:.3f} | {clustered:.3f} | {rest:.3f} | {whole:.3f} | {share:.1%} |")


def scene_maps(model: VisionTransformer, count: int, seed: int, layer: int, score: str) -> tuple[Tensor, Tensor]:
    """Maps [S, T, rows, columns] of all tokens of scenes, and the scenes' regions [S, H, W]."""
    scenes, explain = Scenes(count, seed, model.image_size), LatentTokenAttribution(model)
    side, maps = model.image_size // model.patch_size, []
    for index in tqdm(range(count), desc="scenes"):
        inputs = model.preprocess(scenes[index].image[None])
        maps.append(explain.attribute(inputs, token="patches", layer=layer, score=score, output="patches"))
    regions = torch.stack([scenes[index].instances for index in range(count)])
    return torch.cat(maps).unflatten(-1, (side, side)), regions


def miou(labels: Tensor, target: Tensor) -> Tensor:
    """Matched mIoU of every image [S]."""
    values = [MatchedSegmentation()(*each)["image_miou"] for each in zip(labels.split(1), target.split(1), strict=True)]
    return torch.stack(values)


def shown(values: Tensor) -> str:
    return f"{values.mean():.3f} ± {values.std() / len(values) ** 0.5:.3f}"


def agreement_table(count: int, seed: int, layer: int, score: str) -> None:
    maps, target = scene_maps(scenes_vit(), count, seed, layer, score)
    size, clusters = (target.shape[1], target.shape[2]), gt_unique(target)
    variants = {
        "enlarged maps": SegmentationRule(size),
        "grid maps": SegmentationRule(size, cluster_on="grid"),
        "enlarged maps, each scaled": SegmentationRule(size, scale_maps=True),
        "grid maps, each scaled": SegmentationRule(size, cluster_on="grid", scale_maps=True),
        "enlarged maps, bicubic": SegmentationRule(size, interpolation="bicubic"),
        "enlarged maps, 5 x 5 vote": SegmentationRule(size, smooth=5),
    }
    found = {name: Segmentation.of(maps, clusters, rule=rule).labels for name, rule in variants.items()}
    print(f"{count} scenes, seed {seed}, layer {layer}, score {score}, k an oracle\n")
    print("| clustered | mIoU | pixels that agree with the first row |")
    print("|---|---|---|")
    for name, labels in found.items():
        agree = MatchedSegmentation(ignore_index=None)(labels, found["enlarged maps"])["accuracy"]
        print(f"| {name} | {shown(miou(labels, target))} | {agree:.3f} |")


def enlarged_vit(model: VisionTransformer, size: int) -> VisionTransformer:
    """The same weights for larger images; positions are interpolated."""
    larger = VisionTransformer(replace(model.config, image_size=size)).eval()
    old, new = model.image_size // model.patch_size, size // model.patch_size
    grid = model.pos_embed.detach().unflatten(1, (old, old)).permute(0, 3, 1, 2)
    positions = F.interpolate(grid, size=(new, new), mode="bicubic", align_corners=False)
    larger.load_state_dict({**model.state_dict(), "pos_embed": positions.flatten(2).transpose(1, 2)})
    return larger


def landmark_table(count: int, seed: int, layer: int, score: str, numbers: list[int]) -> None:
    """Every number of landmarks on every scene, beside all tokens; medians of the scenes' seconds and ratios."""
    model = enlarged_vit(scenes_vit(), LARGE)
    tokens, scenes = (LARGE // model.patch_size) ** 2, Scenes(count, seed, LARGE)
    segmenters = {number: LatentTokenSegmenter(model, layer, score, landmarks=number) for number in (tokens, *numbers)}
    found: dict[int, list[Tensor]] = {number: [] for number in segmenters}
    taken: dict[int, list[float]] = {number: [] for number in segmenters}
    for index in tqdm(range(count), desc="scenes"):
        image, target = model.preprocess(scenes[index].image[None]), scenes[index].instances[None]
        for number, segmenter in segmenters.items():
            start = time.process_time()
            labels = segmenter.segment(image, gt_unique(target)).labels
            taken[number].append(time.process_time() - start)
            found[number].append(miou(labels, target))
    print(f"{count} scenes of {LARGE} x {LARGE}, seed {seed}, layer {layer}, score {score}, k an oracle\n")
    print("| landmarks | mIoU | of that of all tokens | CPU seconds an image | times as fast |")
    print("|---|---|---|---|---|")
    for number, values in found.items():
        scores, whole = torch.cat(values), torch.cat(found[tokens])
        faster = statistics.median(slow / fast for slow, fast in zip(taken[tokens], taken[number], strict=True))
        print(
            f"| {number if number < tokens else f'none: all {tokens} tokens'} | {shown(scores)} "
            f"| {scores.mean() / whole.mean():.3f} | {statistics.median(taken[number]):.2f} | {faster:.1f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agreement", action="store_true", help="grid maps beside enlarged maps, on scenes")
    parser.add_argument("--landmarks", action="store_true", help="maps of some tokens in place of all")
    parser.add_argument("--numbers", type=int, nargs="+", default=[144, 100, 64], help="of landmarks")
    parser.add_argument("--scenes", type=int, default=100)
    parser.add_argument("--seed", type=int, default=100, help="of the scenes")
    parser.add_argument("--layer", type=int, default=-1)
    parser.add_argument("--score", default="energy", choices=("sum", "energy"))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(options.threads)
    print(f"torch {torch.__version__}, {options.threads} threads\n")
    scenes = options.scenes, options.seed, options.layer, options.score
    if options.agreement:
        agreement_table(*scenes)
    elif options.landmarks:
        landmark_table(*scenes, options.numbers)
    else:
        split_table(options.rounds)


if __name__ == "__main__":
    main()
