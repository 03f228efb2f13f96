"""Figures of the study: curves under removal, similarity under randomisation, maps of a few scenes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from captum_ultra.attr.methods import METHODS
from captum_ultra.attr.presentation import min_max
from captum_ultra.data import ObjectScenes
from captum_ultra.experiments.class_faithfulness.maps import LABELS, map_makers
from captum_ultra.experiments.class_faithfulness.sanity import FAILS_FROM, Sanity
from captum_ultra.experiments.class_faithfulness.sanity_tables import sanity_numbers
from captum_ultra.experiments.class_faithfulness.study import Faithfulness
from captum_ultra.figures.panels import styled
from captum_ultra.insights.palette import label_colors
from captum_ultra.models.vit_classifier import ViTClassifier

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["maps_figure", "removal_figure", "sanity_figure"]

_STYLES = ("-", "--")
_CONTROLS = {
    "mask": ("black", "-"), "mask_patches": ("black", "--"),
    "edges": ("0.55", "-"), "centre": ("0.55", "--"), "random": ("0.55", ":"),
}  # fmt: skip


@styled
def removal_figure(study: Faithfulness, names: Sequence[str]) -> Figure:
    """Accuracy over the share of removed pixels, most and least relevant first; controls in grey and black.

    The intervals of so many curves hide each other; they are in the tables.

    Args:
        study: that has run.
        names: of methods and controls.
    """
    figure, axes = _figure(2)
    titles = {
        "positive": "most relevant pixels removed first\n(lower is better)",
        "negative": "least relevant pixels removed first\n(higher is better)",
    }
    for panel, (order, title) in zip(axes, titles.items(), strict=True):
        for name in names:
            curve = study.removal(name).curve("accuracy", order)
            colour, style = _look(name, names)
            panel.plot(curve.steps, curve.mean.tolist(), color=colour, linestyle=style, lw=1.2, label=_label(name))
        panel.set(title=title, xlabel="share of pixels removed", ylim=(-0.02, 1.02))
        panel.grid(linewidth=0.4, alpha=0.5)
    axes[0].set_ylabel("accuracy")
    _legend(figure, axes[0])
    return figure


@styled
def sanity_figure(sanity: Sanity, names: Sequence[str]) -> Figure:
    """Rank correlation with the trained model's map, from the head down; a panel a scheme.

    The last place shows maps of different scenes, both of the trained model.

    Args:
        sanity: that has run.
        names: of methods and controls.
    """
    figure, axes = _figure(len(sanity.schemes))
    for panel, scheme in zip(axes, sanity.schemes, strict=True):
        places = list(range(len(sanity.stages) + 1))
        for name in names:
            found = sanity_numbers(sanity, name, scheme)
            colour, style = _look(name, names)
            values = [1.0, *(each.mean for each in found.curves["absolute"])]
            panel.plot(places, values, color=colour, linestyle=style, lw=1.2, marker="o", ms=2.5, label=_label(name))
            panel.plot([places[-1] + 1], [found.different["absolute"].mean], color=colour, marker="D", ms=3)
        panel.axhline(FAILS_FROM, color="0.3", lw=0.6, linestyle=":")
        panel.axvline(places[-1] + 0.5, color="0.3", lw=0.6)
        panel.set_xticks([*places, places[-1] + 1], ["trained", *sanity.stages, "other scene"], rotation=45, ha="right")
        panel.set(title=f"weights: {scheme}", ylim=(-0.45, 1.05))
        panel.grid(linewidth=0.4, alpha=0.5)
    axes[0].set_ylabel("rank correlation with the map\nof the trained model")
    _legend(figure, axes[0])
    return figure


@styled
def maps_figure(model: ViTClassifier, scenes: ObjectScenes, names: Sequence[str]) -> Figure:
    """One row a scene: the image, then every map, each scaled to its own range.

    Args:
        model: that is explained, for the class that it predicts.
        scenes: to show, all of them.
        names: of methods and controls.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    makers = map_makers(model, names, scenes.seed)
    figure = Figure(figsize=(0.85 * (len(names) + 1), 0.88 * len(scenes) + 0.45), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(scenes), len(names) + 1, squeeze=False)
    for index, row in enumerate(axes):
        scene = scenes[index]
        x = model.preprocess(scene.image)[None]
        with torch.no_grad():
            predicted = int(model(x).argmax())
        row[0].imshow(scene.image.clamp(0, 1).permute(1, 2, 0).numpy())
        row[0].set_ylabel(f"{scene.name}\n→ {model.classes[predicted]}", fontsize=6)
        for panel, name in zip(row[1:], names, strict=True):
            values = min_max(makers[name](scene, x, predicted, index)[None])[0]
            panel.imshow(values.numpy(), cmap="magma")
            panel.contour(scene.mask.float().numpy(), [0.5], colors="white", linewidths=0.5)
    for panel, name in zip(axes[0, 1:], names, strict=True):
        panel.set_title(_label(name).replace(" ", "\n", 1), fontsize=6)
    for panel in axes.flat:
        panel.set(xticks=[], yticks=[])
    return figure


def _figure(panels: int) -> tuple[Figure, list[Axes]]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.7 * panels, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, panels, squeeze=False, sharey=True)[0])


def _label(name: str) -> str:
    return LABELS[name].strip("*")


def _look(name: str, names: Sequence[str]) -> tuple[tuple[float, ...] | str, str]:
    """Colour and line: eight colours are told apart by everybody, so the methods after them are dashed."""
    if name in _CONTROLS:
        return _CONTROLS[name]
    number = [each for each in names if each in METHODS].index(name)
    return tuple(label_colors(8)[number % 8] / 255), _STYLES[number // 8 % 2]


def _legend(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
