"""Figures of segmentations: beside the ground truth, and the tree with its cut."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from captum_ultra.figures.panels import as_picture, panels, styled
from captum_ultra.insights.palette import label_colors, paint

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from captum_ultra.segmentation import Segmentation

__all__ = ["dendrogram_figure", "segmentation_figure"]

_ABOVE = "#999999"


@styled
def segmentation_figure(
    image: ArrayLike,
    labels: ArrayLike,
    target: ArrayLike | None = None,
    *,
    title: str = "segmentation",
    caption: str = "",
    ignore_index: int | None = 255,
) -> Figure:
    """The image, the ground truth if there is one, and the segmentation.

    Beside a ground truth, clusters take the colours of the classes that they share most pixels with, one
    to one. Colours are those of the label PNGs otherwise.

    Args:
        image: [H, W, 3] or [H, W], values in 0..1.
        labels: integers [h, w], drawn over the same area.
        target: integers [h, w], of the labels' size.
        title: of the segmentation.
        caption: written below the image, e.g. ``str(segmentation.made_by)``, which names an oracle.
        ignore_index: the target of void pixels, drawn in white; None if there are none.

    Returns:
        A figure; :func:`captum_ultra.insights.figures.save_figure` writes it.

    Raises:
        ValueError: for shapes that do not fit together.

    Example:
        >>> figure = segmentation_figure(np.zeros((8, 8, 3)), np.eye(8, dtype=int), caption="k = 2")
        >>> [axes.get_title() for axes in figure.axes]
        ['image', 'segmentation']
    """
    picture, shown = as_picture(image), [(title, np.asarray(labels))]
    drawn = [paint(shown[0][1])]
    if target is not None:
        true = np.asarray(target)
        if true.shape != shown[0][1].shape:
            raise ValueError(f"target of shape {true.shape} does not fit labels of shape {shown[0][1].shape}")
        classes, clusters = _alike(shown[0][1], true, ignore_index)
        shown.insert(0, ("ground truth", true))
        drawn = [paint(classes, void=_VOID if ignore_index is not None else None), paint(clusters)]
    figure, axes = panels(1, 1 + len(drawn), 1.6, picture)
    extent = (0, picture.shape[1], picture.shape[0], 0)
    axes[0, 0].imshow(picture, extent=extent, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes[0, 0].set_title("image")
    axes[0, 0].set_xlabel(caption, loc="left")
    for panel, (name, _), colors in zip(axes[0, 1:], shown, drawn, strict=True):
        panel.imshow(colors, extent=extent, interpolation="nearest")
        panel.set_title(name)
    return figure


_VOID = 2**15  # beyond all numbers of classes


def _alike(labels: NDArray[Any], target: NDArray[Any], ignore: int | None) -> tuple[NDArray[Any], NDArray[Any]]:
    """Classes and clusters renumbered so that those which are matched have one number."""
    from captum_ultra.metrics.matching import contingency, match_clusters

    present = np.unique(target if ignore is None else target[target != ignore])
    classes = np.searchsorted(present, target)
    void = np.zeros(target.shape, dtype=bool) if ignore is None else target == ignore
    classes[void] = _VOID
    count = int(labels.max()) + 1
    table = contingency(torch.from_numpy(labels), torch.from_numpy(classes), count, max(1, len(present)), _VOID)
    match = match_clusters(table).numpy()
    unmatched = match < 0
    match[unmatched] = len(present) + np.arange(unmatched.sum())
    return classes, match[labels]


@styled
def dendrogram_figure(segmentation: Segmentation, index: int = 0, *, title: str = "") -> Figure:
    """The tree of one image's maps, its clusters in the colours of their labels, and where it is cut.

    Args:
        segmentation: holds the trees.
        index: which image.
        title: above the tree, at the left; at the right stands where the tree is cut.

    Returns:
        A figure; :func:`captum_ultra.insights.figures.save_figure` writes it.

    Raises:
        ValueError: for the tree of a single map.

    Example:
        >>> from captum_ultra.segmentation import Segmentation
        >>> figure = dendrogram_figure(Segmentation.of(torch.rand(1, 9, 3, 3), n_clusters=3))
        >>> figure.axes[0].get_ylabel()
        'cosine distance'
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from scipy.cluster.hierarchy import dendrogram

    tree, clusters = segmentation.trees[index], segmentation.token_labels[index].cpu().numpy()
    if tree.leaves < 2:
        raise ValueError("one map makes no tree to draw")
    figure = Figure(figsize=(6.0, 2.4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    colors = _link_colors(tree.merges, clusters)
    dendrogram(tree.merges, ax=axes, no_labels=True, link_color_func=colors.__getitem__)
    height = _cut_height(tree.merges, len(set(clusters.tolist())))
    axes.axhline(height, color="black", linewidth=0.8, linestyle="--")
    for links in axes.collections:
        links.set_linewidth(0.8)
    axes.set_title(title, loc="left")
    axes.set_title(str(segmentation.made_by), loc="right")
    axes.set(ylabel="cosine distance", xlabel=f"{tree.leaves} tokens")
    return figure


def _link_colors(merges: NDArray[np.float64], clusters: NDArray[Any]) -> dict[int, str]:
    """The colour of every inner node: its cluster's if all below it belong to one, else grey."""
    shades = ["#" + bytes(color).hex() for color in label_colors(int(clusters.max()) + 1).tolist()]
    below: list[int] = clusters.tolist()  # the cluster of every node, -1 above the cut
    for one, other in merges[:, :2].astype(int).tolist():
        below.append(below[one] if below[one] == below[other] else -1)
    return {node: _ABOVE if name < 0 else shades[name] for node, name in enumerate(below)}


def _cut_height(merges: NDArray[np.float64], clusters: int) -> float:
    """Half way between the last join below the cut and the first above it."""
    heights = np.concatenate([[0.0], merges[:, 2], [merges[-1, 2] * 1.05]])
    done = len(merges) + 1 - clusters
    return float(heights[done : done + 2].mean())
