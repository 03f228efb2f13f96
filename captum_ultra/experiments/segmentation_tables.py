"""The tables of the segmentation experiment: scores by method and layer, and differences within scenes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from captum_ultra.experiments.markdown import bold, markdown_table
from captum_ultra.intervals import Interval, bootstrap
from captum_ultra.metrics.matching import class_iou
from captum_ultra.perturbation.latent_result import ORDERS, LatentPerturbationResult

__all__ = ["Cells", "accuracy", "miou", "parts_table", "perturbation_table", "score_table", "summary_table"]

Cells = Mapping[tuple[str, int], list[dict[str, Any]]]
"""For each method and layer one result a scene, in the order of the scenes."""


def miou(found: dict[str, Any]) -> float:
    """U.mIoU of one scene: mean over its regions. Of :class:`MatchedSegmentation`'s confusion [C, C + 1]."""
    return float(class_iou(torch.tensor(found["confusion"])).nanmean())


def accuracy(found: dict[str, Any]) -> float:
    """U.ACC of one scene: the share of its pixels whose cluster is matched to their region."""
    confusion = torch.tensor(found["confusion"])
    return float(confusion.diagonal().sum().double() / confusion.sum())


def score_table(cells: Cells, score: Callable[[dict[str, Any]], float | None]) -> str:
    """One row a method and one column a layer, mean and interval; every method's best layer in bold.

    Methods that have no such score (``score`` gives None) are left out; methods without layers are at layer 0.
    """
    found = {key: bootstrap(values) for key, each in cells.items() if (values := _values(each, score)) is not None}
    layers = sorted({layer for _, layer in found})
    rows = []
    for method in dict.fromkeys(method for method, _ in found):
        best = max((layer for name, layer in found if name == method), key=lambda layer: found[method, layer].mean)
        texts = [str(found[method, layer]) if (method, layer) in found else "" for layer in layers]
        rows.append([method, *(bold(text, layer == best) for layer, text in zip(layers, texts, strict=True))])
    return markdown_table(["method", *(f"layer {layer}" if layer else "no layer" for layer in layers)], rows)


def summary_table(cells: Cells, ours: tuple[str, int]) -> str:
    """Every method at its best layer on these scenes, and what one method at one layer has more than it.

    Differences are taken scene by scene. The others' choice of layer is made with hindsight, in their favour.
    """
    own, rows = _mious(cells[ours]), []
    for method in dict.fromkeys([ours[0], *(method for method, _ in cells)]):
        of_layer = {layer: _mious(each) for (name, layer), each in cells.items() if name == method}
        layer = ours[1] if method == ours[0] else max(of_layer, key=lambda each: float(of_layer[each].mean()))
        place = f", layer {layer}" if layer else ""
        right = torch.tensor([accuracy(found) for found in cells[method, layer]], dtype=torch.float64)
        texts = [f"{method}{place}", str(bootstrap(of_layer[layer])), str(bootstrap(right)), "", ""]
        if method != ours[0]:
            gaps = own - of_layer[layer]
            texts[3:] = [_signed(bootstrap(gaps)), f"{float((gaps > 0).double().mean()):.0%}"]
        rows.append(texts)
    return markdown_table(["method", "U.mIoU", "U.ACC", f"{ours[0]} minus it, U.mIoU", "scenes won"], rows)


def parts_table(cells: Cells, layer: int) -> str:
    """The IoU of the background and the mean IoU of the objects, at one layer and for methods without layers."""
    rows = []
    for (method, at), each in cells.items():
        if at in (0, layer):
            ious = torch.stack([class_iou(torch.tensor(found["confusion"])) for found in each])
            parts = bootstrap(ious[:, 0]), bootstrap(ious[:, 1:].nanmean(1))
            rows.append([method, *map(str, parts)])
    return markdown_table(["method", "background", "objects"], rows)


def perturbation_table(cells: Cells, fractions: tuple[float, ...], fraction: float) -> str:
    """Distances of latents by order at one fraction, and the area between the curves over all of them."""
    at, rows = fractions.index(fraction), []
    for (method, layer), each in cells.items():
        result = LatentPerturbationResult(fractions, torch.tensor([one["distances"] for one in each]).double())
        means = [_interval(result.curve[order, at], result.interval[:, order, at]) for order in range(len(ORDERS))]
        gap = _interval(result.difference[at], result.difference_interval[:, at])
        area = result.area_interval
        assert result.area is not None and area is not None
        texts = [*map(_short, means), _short(gap), _short(_interval(torch.tensor(result.area), area))]
        rows.append([method, str(layer), *texts])
    header = ["score", "layer", *ORDERS, "positive minus negative", "area between the curves"]
    return markdown_table(header, rows)


def _values(each: list[dict[str, Any]], score: Callable[[dict[str, Any]], float | None]) -> Tensor | None:
    scores = [value for found in each if (value := score(found)) is not None]
    return torch.tensor(scores, dtype=torch.float64) if scores else None


def _mious(each: list[dict[str, Any]]) -> Tensor:
    return torch.tensor([miou(found) for found in each], dtype=torch.float64)


def _interval(mean: Tensor, ends: Tensor) -> Interval:
    return Interval(float(mean), float(ends[0]), float(ends[1]))


def _short(interval: Interval) -> str:
    return f"{interval.mean:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _signed(interval: Interval) -> str:
    return f"{interval.mean:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"
