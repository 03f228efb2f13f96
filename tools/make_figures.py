"""The pictures of docs/figures.md, one small PNG for each kind of figure, with the models that ship with the package.

python tools/make_figures.py [NAME ...] --output docs/images/figures
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from captum_ultra import LatentTokenAttribution, TokenContribution
from captum_ultra.attr.latents import LatentReader
from captum_ultra.data import Facts, ObjectScenes, Scenes
from captum_ultra.data.facts import SEPARATOR
from captum_ultra.experiments.evaluate.rows import Row, percent
from captum_ultra.insights import (
    contribution_figure,
    curves_figure,
    dendrogram_figure,
    explain_figure,
    faithfulness_figure,
    masks_figure,
    overlay_figure,
    panels_figure,
    perturbation_examples_figure,
    perturbation_figure,
    points_figure,
    save_figure,
    segmentation_figure,
)
from captum_ultra.insights.compare import compare
from captum_ultra.insights.scene_demo import explain_scene
from captum_ultra.intervals import bootstrap
from captum_ultra.models.llama import facts_llama, facts_tokenizer
from captum_ultra.models.loader import load_model
from captum_ultra.models.vit import scenes_vit
from captum_ultra.perturbation import LatentPerturbationTest, comprehensiveness, perturb_patches, sufficiency
from captum_ultra.segmentation import LatentTokenSegmenter, gt_unique, object_mask

MODEL, SEED, LAYER = "scenes-vit", 0, 5
DPI = 90
LARGEST = 120_000  # bytes of a picture
ORDERS = {"most relevant first": True, "least relevant first": False}


@cache
def vit() -> Any:
    return scenes_vit()


@cache
def found(index: int, score: str = "sum") -> Any:
    """Tokens inside the objects of one scene, explained at every layer."""
    return explain_scene(vit(), Scenes(index + 1, SEED)[index], score=score, tokens=3)


def inputs(index: int) -> Tensor:
    return vit().preprocess(found(index).scene.image[None])


def picture(index: int) -> Any:
    return found(index).scene.image.permute(1, 2, 0).numpy()


def at_layer(index: int, score: str = "sum", layer: int = LAYER) -> Tensor:
    """Maps [T, H, W] of the tokens of a scene."""
    each = found(index, score)
    maps: Tensor = each.maps[:, each.layers.index(layer)]
    return maps


def explain() -> Any:
    maps = torch.stack([at_layer(0, score)[0] for score in ("sum", "energy")])
    maps = maps / maps.amax((1, 2), keepdim=True)
    titles = [f"layer {LAYER}, {score}" for score in ("sum", "energy")]
    return explain_figure(picture(0), maps, token=found(0).tokens[0], grid=found(0).grid, titles=titles, caption=MODEL)


def token_layers() -> Any:
    return found(0).figure()


def overlays() -> Any:
    regions = [segmented(i).labels[0] for i in range(3)]
    columns = {f"ULTra, {score}": [at_layer(i, score)[0] for i in range(3)] for score in ("sum", "energy")}
    return overlay_figure(
        [picture(i) for i in range(3)], {**columns, "regions": regions}, tokens=[found(i).tokens[0] for i in range(3)],
        grid=found(0).grid, names=[found(i).names[0] for i in range(3)], caption=f"{MODEL}, layer {LAYER}",
    )  # fmt: skip


def masks() -> Any:
    thresholds, each = (0.1, 0.2, 0.4), found(0)
    maps = at_layer(0, "energy")
    notes = [
        [f"IoU {_iou(object_mask(values, tau), each.scene.instances == number):.2f}" for tau in thresholds]
        for values, number in zip(maps, each.objects, strict=True)
    ]
    return masks_figure(
        picture(0), maps, each.tokens, grid=each.grid, thresholds=thresholds, names=each.names, notes=notes,
        caption=f"{MODEL}, layer {LAYER}, energy",
    )  # fmt: skip


def _iou(mask: Tensor, true: Tensor) -> float:
    return float((mask & true).sum() / (mask | true).sum())


def segmentation() -> Any:
    cut = segmented(1)
    return segmentation_figure(picture(1), cut.labels[0], found(1).scene.instances, caption=str(cut.made_by))


@cache
def segmented(index: int) -> Any:
    """Cut at the true number of regions, an oracle: the caption says so."""
    count = gt_unique(found(index).scene.instances[None], ignore_index=None)
    return LatentTokenSegmenter(vit(), LAYER, "energy").segment(inputs(index), n_clusters=count)


def dendrogram() -> Any:
    return dendrogram_figure(segmented(1), title=f"{MODEL}, layer {LAYER}, energy")


def perturbation_examples() -> Any:
    each, images, fractions = found(0), inputs(0), (0.1, 0.3, 0.6)
    token, grid = each.tokens[0], each.grid
    method = LatentTokenAttribution(vit())
    row = method.attribute(images, token=token, layer=LAYER, self_token="zero", output="patches")[0]
    own, read = token[0] * grid[1] + token[1], LatentReader(vit(), LAYER)
    clean = read(images)[0, own]
    shown: dict[str, list[Any]] = {}
    distances: dict[str, list[float]] = {}
    for order, descending in ORDERS.items():
        ranked = row.argsort(descending=descending, stable=True)
        ranked = ranked[ranked != own]
        changed = [perturb_patches(images, ranked[: round(share * len(ranked))], grid) for share in fractions]
        shown[order] = [_undone(each) for each in changed]
        distances[order] = [float((read(each)[0, own] - clean).norm()) for each in changed]
    return perturbation_examples_figure(
        picture(0), at_layer(0)[0], shown, fractions, token=token, grid=grid, distances=distances,
        caption=f"{MODEL}, layer {LAYER}, sum",
    )  # fmt: skip


def _undone(images: Tensor) -> Any:
    mean, std = (torch.as_tensor(each).view(-1, 1, 1) for each in (vit().mean, vit().std))
    return (images[0] * std + mean).clamp(0, 1).permute(1, 2, 0).numpy()


def perturbation() -> Any:
    test = LatentPerturbationTest(vit(), LAYER, (0.1, 0.3, 0.5, 0.7, 0.9), tokens=3)
    return perturbation_figure([test.run(inputs(i)[0] for i in range(12))], [f"{MODEL}, layer {LAYER}, sum"])


def curves_tau() -> Any:
    return curves_figure(list(_over_tau()), "tau")


def _over_tau() -> Iterator[Row]:
    for score, name in (("sum", "ULTra_S"), ("energy", "ULTra_E")):
        for tau in (0.05, 0.1, 0.2, 0.3, 0.4, 0.6):
            values = [_mean_iou(index, at_layer(index, score), tau) for index in range(12)]
            yield Row(name, "IoU of masks", percent(bootstrap(torch.tensor(values).double())), at=tau)


def curves_layers() -> Any:
    return curves_figure(list(_over_layers()), "layer")


def _over_layers() -> Iterator[Row]:
    for score, name in (("sum", "ULTra_S"), ("energy", "ULTra_E")):
        for layer in found(0).layers:
            values = [_mean_iou(index, at_layer(index, score, layer), 0.2) for index in range(12)]
            yield Row(name, "IoU of masks, tau = 0.2", percent(bootstrap(torch.tensor(values).double())), at=layer)


def _mean_iou(index: int, maps: Tensor, tau: float) -> float:
    each = found(index)
    pairs = zip(maps, each.objects, strict=True)
    ious = [_iou(object_mask(values, tau), each.scene.instances == number) for values, number in pairs]
    return sum(ious) / len(ious)


def curves_zeta() -> Any:
    return curves_figure(list(_over_zeta()), "zeta")


def _over_zeta() -> Iterator[Row]:
    trees = [segmented(index).trees[0] for index in range(12)]
    for zeta in (0.2, 0.4, 0.6, 0.7, 0.8, 0.9):
        counts = torch.tensor([len(tree.cut(threshold=zeta).unique()) for tree in trees]).double()
        yield Row("ULTra_E", "clusters in an image", bootstrap(counts), at=zeta, unit="")


def points() -> Any:
    return points_figure(list(_numbers()))


def panels() -> Any:
    return panels_figure(list(_numbers()))


def _numbers() -> Iterator[Row]:
    for score, name in (("sum", "ULTra_S"), ("energy", "ULTra_E")):
        for tau in (0.1, 0.2):
            values = [_mean_iou(index, at_layer(index, score), tau) for index in range(12)]
            yield Row(name, f"IoU, tau = {tau:g}", percent(bootstrap(torch.tensor(values).double())))


def comparison() -> Any:
    loaded, scene = load_model("scenes-classifier"), ObjectScenes(3)[2]
    return compare(loaded, loaded.model.preprocess(scene.image[None]), names=[scene.name]).figure()


@cache
def told() -> Any:
    document = Facts(1)[0]
    method = TokenContribution(facts_llama(), facts_tokenizer())
    return method.attribute(document.context, f" {document.summary}", separator=SEPARATOR, layer=-1)


def contribution() -> Any:
    return contribution_figure(told())


def faithfulness() -> Any:
    return faithfulness_figure([test(facts_llama(), told()) for test in (comprehensiveness, sufficiency)])


FIGURES: dict[str, Callable[[], Any]] = {
    each.__name__: each
    for each in (
        explain, token_layers, overlays, masks, segmentation, dendrogram, perturbation_examples, perturbation,
        curves_tau, curves_layers, curves_zeta, points, panels, comparison, contribution, faithfulness,
    )
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(FIGURES)}; all of them without a name")
    parser.add_argument("--output", type=Path, default=Path("docs/images/figures"))
    args = parser.parse_args()
    unknown = set(args.names) - set(FIGURES)
    if unknown:
        parser.error(f"there is no figure {min(unknown)!r}")
    for name in args.names or FIGURES:
        path = save_figure(FIGURES[name](), args.output / f"{name}.png", dpi=DPI)
        with Image.open(path) as image:  # a palette of 256 colours halves the size
            image.convert("RGB").quantize().save(path, optimize=True)
        size = path.stat().st_size
        print(f"{path}: {size / 1000:.0f} kB")
        if size > LARGEST:
            raise SystemExit(f"{path} is larger than {LARGEST / 1000:.0f} kB")


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
