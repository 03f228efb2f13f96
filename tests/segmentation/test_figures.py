"""Palette, triptych and dendrogram: what they draw, looked up in the drawing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from captum_ultra.insights.figures import save_figure
from captum_ultra.insights.palette import VOID, label_colors, overlay, paint
from captum_ultra.insights.segmentation import dendrogram_figure, segmentation_figure
from captum_ultra.segmentation import Segmentation, gt_unique

TARGET = np.array([[7, 7, 3, 3], [7, 7, 3, 255]])


def drawn(figure: object, panel: int) -> np.ndarray:
    return figure.axes[panel].images[0].get_array()  # type: ignore[attr-defined]


def test_colours_are_distinct_and_then_repeat() -> None:
    colors = label_colors(30)
    assert len(np.unique(colors[:24], axis=0)) == 24 and np.array_equal(colors[24:], colors[:6])
    assert not (label_colors(256) == VOID).all(1).any()


def test_the_first_colours_stay_apart_under_colour_blindness() -> None:
    """Vienot, Brettel and Mollon (1999): what dichromats see, in linear RGB."""
    seen = {
        "deuteranopia": [[0.29275, 0.70725, 0.0], [0.29275, 0.70725, 0.0], [-0.02234, 0.02234, 1.0]],
        "protanopia": [[0.11238, 0.88762, 0.0], [0.11238, 0.88762, 0.0], [0.00401, -0.00401, 1.0]],
    }
    linear = (label_colors(8) / 255.0) ** 2.2
    for matrix in seen.values():
        shown = (linear @ np.array(matrix).T).clip(0, 1) ** (1 / 2.2)
        apart = np.linalg.norm(shown[:, None] - shown, axis=-1)
        assert apart[~np.eye(8, dtype=bool)].min() > 0.08


def test_paint_and_overlay() -> None:
    labels = np.array([[0, 0, 1], [0, 0, 1]])
    colors = paint(labels)
    assert np.array_equal(colors[0, 0], label_colors(1)[0]) and np.array_equal(colors[1, 2], label_colors(2)[1])
    assert (paint(np.array([[0, 255]]), void=255)[0, 1] == VOID).all()
    over = overlay(np.zeros((2, 3, 3)), labels)
    assert (over[:, 1] == 255).all() and np.array_equal(over[0, 0], np.rint(0.6 * label_colors(1)[0]))


@pytest.mark.parametrize("labels", [np.zeros((2, 2)), np.array([[-1]]), np.zeros(3, dtype=int), np.zeros((0, 2), int)])
def test_what_cannot_be_painted(labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="labels"):
        paint(labels)


def test_a_triptych_gives_matched_regions_one_colour() -> None:
    labels = np.array([[1, 1, 0, 0], [1, 1, 0, 2]])
    figure = segmentation_figure(np.zeros((2, 4, 3)), labels, TARGET, caption="k = 3")
    assert [axes.get_title() for axes in figure.axes] == ["image", "ground truth", "segmentation"]
    truth, found = drawn(figure, 1), drawn(figure, 2)
    counted = TARGET != 255
    assert np.array_equal(truth[counted], found[counted]) and (truth[~counted] == VOID).all()
    assert not np.array_equal(found[~counted][0], found[0, 0]) and not np.array_equal(found[~counted][0], found[0, 3])
    assert figure.axes[0].get_xlabel() == "k = 3"


def test_without_a_ground_truth_the_colours_are_those_of_the_files(tmp_path: object) -> None:
    labels = np.array([[1, 0], [2, 0]])
    figure = segmentation_figure(np.ones((4, 4)), labels)
    assert np.array_equal(drawn(figure, 1), paint(labels)) and len(figure.axes) == 2


def test_shapes_that_do_not_fit() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        segmentation_figure(np.zeros((2, 2, 3)), np.zeros((2, 2), int), np.zeros((3, 3), int))
    with pytest.raises(ValueError, match="does not fit"):
        overlay(np.zeros((2, 2, 3)), np.zeros((3, 3), int))


@pytest.mark.parametrize("cut", [{"n_clusters": 1}, {"n_clusters": 4}, {"n_clusters": 9}, {"threshold": 0.2}])
def test_the_dendrogram_shows_the_clusters_and_the_cut(cut: dict, tmp_path: object) -> None:
    found = Segmentation.of(torch.rand(1, 9, 3, 3), **cut)
    figure = dendrogram_figure(found, title="tree")
    (axes,) = figure.axes
    height = axes.lines[-1].get_ydata()[0]
    merges, clusters = found.trees[0].merges, len(found.token_labels[0].unique())
    assert (merges[:, 2] < height).sum() == 9 - clusters
    assert axes.get_title(loc="right") == str(found.made_by)
    links = sum(len(each.get_paths()) for each in axes.collections)
    assert links == 8
    save_figure(figure, tmp_path / "tree.png")  # type: ignore[operator]


def test_an_oracle_is_named_in_the_drawing() -> None:
    found = Segmentation.of(torch.rand(1, 9, 3, 3), n_clusters=gt_unique(torch.zeros(1, 3, 3).long()))
    assert "oracle" in dendrogram_figure(found).axes[0].get_title(loc="right")


def test_one_map_makes_no_tree() -> None:
    with pytest.raises(ValueError, match="one map"):
        dendrogram_figure(Segmentation.of(torch.rand(1, 1, 3, 3)))
