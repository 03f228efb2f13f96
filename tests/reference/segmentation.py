"""Segmentation and its scores written out with loops, independent of the package and of scipy.

Slow and explicit on purpose: the fast code is held against it. ULTra, arXiv 2411.12589, segmentation.
"""

from __future__ import annotations

import math
from collections import Counter
from itertools import combinations, permutations

import torch
import torch.nn.functional as F
from torch import Tensor


def cosine_distance(a: Tensor, b: Tensor) -> float:
    """1 - cos; a zero vector is at 0 from a zero vector and at 1 from any other."""
    x, y = a.double().flatten().tolist(), b.double().flatten().tolist()
    length_x, length_y = (math.sqrt(sum(value * value for value in each)) for each in (x, y))
    if length_x == 0 or length_y == 0:
        return 0.0 if length_x == length_y else 1.0
    return 1 - sum(u * v for u, v in zip(x, y, strict=True)) / (length_x * length_y)


def average_linkage(maps: Tensor, n_clusters: int | None = None, threshold: float | None = None) -> list[set[int]]:
    """Join the two clusters whose members are nearest on average, until k remain or all are farther than zeta."""
    apart = {pair: cosine_distance(maps[pair[0]], maps[pair[1]]) for pair in combinations(range(len(maps)), 2)}
    clusters = [{index} for index in range(len(maps))]

    def between(one: set[int], other: set[int]) -> float:
        return sum(apart[min(i, j), max(i, j)] for i in one for j in other) / (len(one) * len(other))

    while len(clusters) > (n_clusters or 1):
        one, other = min(combinations(clusters, 2), key=lambda pair: between(*pair))
        if threshold is not None and between(one, other) > threshold:
            break
        clusters = [each for each in clusters if each is not one and each is not other] + [one | other]
    return sorted(clusters, key=min)


def enlarged(maps: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Every map [T, h, w] enlarged by itself: [T, H, W]."""
    corners = None if mode == "nearest" else False
    return torch.cat([F.interpolate(each[None, None], size=size, mode=mode, align_corners=corners)[0] for each in maps])


def scaled(values: Tensor) -> Tensor:
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else torch.zeros_like(values)


def pixel_labels(large: Tensor, clusters: list[set[int]]) -> list[list[int]]:
    """Labels of enlarged maps [T, H, W] in the order of their first pixel; in a draw the first cluster wins."""
    sums = [scaled(sum((large[token] for token in sorted(each)), torch.zeros_like(large[0]))) for each in clusters]
    names: dict[int, int] = {}
    labels = []
    for y in range(large.shape[1]):
        row = []
        for x in range(large.shape[2]):
            values = [float(each[y, x]) for each in sums]
            first = next(index for index, value in enumerate(values) if value >= max(values) - 1e-9)
            row.append(names.setdefault(first, len(names)))
        labels.append(row)
    return labels


def majority(labels: list[list[int]], side: int) -> list[list[int]]:
    """The commonest label of the window around every pixel; its own wins a draw, then the smallest."""
    height, width, reach = len(labels), len(labels[0]), side // 2
    voted = []
    for y in range(height):
        row = []
        for x in range(width):
            window = [
                labels[v][u]
                for v in range(max(0, y - reach), min(height, y + reach + 1))
                for u in range(max(0, x - reach), min(width, x + reach + 1))
            ]
            votes = Counter(window)
            best = max(votes.values())
            drawn = sorted(label for label, count in votes.items() if count == best)
            row.append(labels[y][x] if labels[y][x] in drawn else drawn[0])
        voted.append(row)
    return voted


Pixels = list[tuple[int, int]]


def pixels_of(labels: Tensor, target: Tensor, ignore: int | None) -> Pixels:
    """(cluster, class) of every pixel that counts."""
    pairs = zip(labels.flatten().tolist(), target.flatten().tolist(), strict=True)
    return [(cluster, true) for cluster, true in pairs if true != ignore]


def best_match(pixels: Pixels) -> list[dict[int, int]]:
    """All one-to-one matches of clusters to classes that share most pixels, by trying every one."""
    clusters, classes = sorted({each[0] for each in pixels}), sorted({each[1] for each in pixels})
    size = min(len(clusters), len(classes))
    found: list[tuple[int, dict[int, int]]] = []
    for chosen in permutations(clusters, size):
        for matched in combinations(classes, size):
            match = dict(zip(chosen, matched, strict=True))
            found.append((sum(match.get(cluster) == true for cluster, true in pixels), match))
    most = max(shared for shared, _ in found)
    return [match for shared, match in found if shared == most]


def accuracy_and_iou(pairs: list[tuple[int | None, int]]) -> tuple[float, dict[int, float]]:
    """Of (predicted class or None, true class): the accuracy, and the IoU of every true class."""
    right = sum(predicted == true for predicted, true in pairs)
    ious = {}
    for name in {true for _, true in pairs}:
        inside = sum(predicted == name == true for predicted, true in pairs)
        union = sum(name in (predicted, true) for predicted, true in pairs)
        ious[name] = inside / union
    return right / len(pairs), ious


def initial_token_iou(masks: Tensor, target: Tensor, grid: tuple[int, int], ignore: int | None) -> float:
    """ITIoU of one image (eq. 17), patch by patch and pixel by pixel."""
    height, width = target.shape
    by_class: dict[int, list[float]] = {}
    for token, mask in enumerate(masks):
        row, column = divmod(token, grid[1])
        inside = [
            int(target[y, x])
            for y in range(height)
            for x in range(width)
            if row <= (y + 0.5) * grid[0] / height < row + 1 and column <= (x + 0.5) * grid[1] / width < column + 1
        ]
        votes = Counter(inside)
        name = min(label for label, count in votes.items() if count == max(votes.values()))
        if name == ignore:
            continue
        counted = [(y, x) for y in range(height) for x in range(width) if int(target[y, x]) != ignore]
        both = sum(bool(mask[y, x]) and int(target[y, x]) == name for y, x in counted)
        either = sum(bool(mask[y, x]) or int(target[y, x]) == name for y, x in counted)
        by_class.setdefault(name, []).append(both / either)
    means = [sum(values) / len(values) for values in by_class.values()]
    return sum(means) / len(means) if means else math.nan
