"""Sheets: what is drawn in which panel, masks as eq. 14 has them, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from captum_ultra.insights.figures import save_figure
from captum_ultra.insights.sheets import masks_figure, overlay_figure, perturbation_examples_figure
from captum_ultra.segmentation import object_mask

RANDOM = np.random.default_rng(0)
IMAGE = np.linspace(0.2, 1, 16 * 24 * 3).reshape(16, 24, 3)
MAPS = RANDOM.random((2, 4, 6))
REGIONS = (np.arange(16 * 24).reshape(16, 24) % 24) // 8


def drawn(axes: Any) -> Any:
    return np.asarray(axes.images[0].get_array())


def frame(axes: Any) -> tuple[float, ...]:
    (patch,) = axes.patches
    return patch.get_x(), patch.get_y(), patch.get_width(), patch.get_height()


def test_rows_are_images_and_columns_are_methods() -> None:
    columns = {"ULTra": list(MAPS), "regions": [REGIONS, REGIONS]}
    figure = overlay_figure(
        [IMAGE, IMAGE[..., 0]], columns, tokens=[(1, 2), None], grid=(4, 6), names=["a", "b"], caption="a model"
    )
    *panels, bar = figure.axes
    assert [panel.get_title() for panel in panels] == ["image", "ULTra", "regions", "", "", ""]
    assert [panels[0].get_ylabel(), panels[3].get_ylabel()] == ["a", "b"] and panels[3].get_xlabel() == "a model"
    assert [frame(panel) for panel in panels[:3]] == [(8, 4, 4, 4)] * 3 and not panels[4].patches
    assert "own scale" in bar.get_ylabel()


def test_every_map_has_its_own_scale() -> None:
    small = overlay_figure([IMAGE], {"map": [MAPS[0]]}).axes[1]
    large = overlay_figure([IMAGE], {"map": [1e6 * MAPS[0]]}).axes[1]
    np.testing.assert_allclose(drawn(small), drawn(large))


def test_signed_maps_get_a_scale_with_two_sides() -> None:
    figure = overlay_figure([IMAGE], {"signed": [MAPS[0] - 0.5], "unsigned": [MAPS[0]]})
    assert len(figure.axes) == 3 + 2 and figure.axes[4].get_ylim() == (-1, 1)
    black, values = np.zeros((4, 6, 3)), np.array([[-1.0, 1.0]])
    red, blue = (drawn(overlay_figure([black], {"signed": [values]}).axes[1])[0, column] for column in (-1, 0))
    assert red[0] > red[2] and blue[2] > blue[0]


def test_labels_alone_need_no_colour_bar() -> None:
    assert len(overlay_figure([IMAGE], {"regions": [REGIONS]}).axes) == 2


@pytest.mark.parametrize("tau", [0.0, 0.2, 0.7, 1.0])
def test_inside_the_mask_the_image_is_as_it_is(tau: float) -> None:
    panel = masks_figure(IMAGE, MAPS, [(0, 0), (3, 5)], grid=(4, 6), thresholds=[tau]).axes[2]
    mask = object_mask(torch.from_numpy(MAPS[0]), tau).numpy().repeat(4, 0).repeat(4, 1)
    shown = drawn(panel)
    np.testing.assert_allclose(shown[mask], IMAGE[mask])
    np.testing.assert_allclose(shown[~mask], 0.25 * IMAGE[~mask])


def test_masks_of_tokens_and_thresholds() -> None:
    figure = masks_figure(
        IMAGE, MAPS, [(0, 0), (3, 5)], grid=(4, 6), thresholds=(0.2, 0.5), names=["ring", "star"],
        notes=[["a", "b"], ["c", "d"]], caption="a model",
    )  # fmt: skip
    panels = figure.axes[:8]
    assert [panel.get_title() for panel in panels[:4]] == ["image", "map", "tau = 0.2", "tau = 0.5"]
    assert [panel.texts[0].get_text() for panel in (*panels[2:4], *panels[6:8])] == list("abcd")
    assert {frame(panel) for panel in panels[4:]} == {(20, 12, 4, 4)}
    assert panels[4].get_ylabel() == "star" and panels[4].get_xlabel() == "a model"


def test_a_map_without_contrast_has_an_empty_mask() -> None:
    panel = masks_figure(IMAGE, np.ones((1, 4, 6)), [(0, 0)], grid=(4, 6)).axes[2]
    np.testing.assert_allclose(drawn(panel), 0.25 * IMAGE)


def test_orders_are_rows_and_shares_are_columns() -> None:
    perturbed = {order: [IMAGE * share for share in (0.9, 0.5)] for order in ("most", "least")}
    figure = perturbation_examples_figure(
        IMAGE, MAPS[0], perturbed, (0.2, 0.55), token=(1, 2), grid=(4, 6), caption="a model",
        distances={"least": [0.25, 1], "most": [2, 3.125]},
    )  # fmt: skip
    panels = figure.axes[:8]
    assert [panel.get_title() for panel in panels[:4]] == ["image", "map", "20 %", "55 %"]
    assert [panels[2].get_ylabel(), panels[6].get_ylabel()] == ["most", "least"]
    assert [panel.texts[0].get_text() for panel in (*panels[2:4], *panels[6:8])] == ["2.00", "3.12", "0.25", "1.00"]
    np.testing.assert_allclose(drawn(panels[7]), IMAGE * 0.5)
    assert all(frame(panel) == (8, 4, 4, 4) for panel in (*panels[:4], *panels[6:]))


def test_text_and_panels_do_not_overlap(tmp_path: Any) -> None:
    perturbed = {f"{order} relevant first": [IMAGE] * 3 for order in ("most", "least")}
    for figure in (
        perturbation_examples_figure(IMAGE, MAPS[0], perturbed, (0.1, 0.5, 0.9), token=(1, 2), grid=(4, 6)),
        masks_figure(IMAGE, MAPS, [(0, 0), (3, 5)], grid=(4, 6), thresholds=(0.2, 0.5), names=["triangle", "star"]),
        overlay_figure([IMAGE] * 2, {"signed": list(MAPS - 0.5), "unsigned": list(MAPS)}, names=["one", "two"]),
    ):
        assert save_figure(figure, tmp_path / "figure.png", dpi=60).stat().st_size > 1000
        renderer = figure.canvas.get_renderer()
        boxes = [axes.get_tightbbox(renderer) for axes in figure.axes if axes.axison]
        for number, box in enumerate(boxes):
            assert box.x0 >= figure.bbox.x0 - 1 and box.y1 <= figure.bbox.y1 + 1
            assert not any(box.overlaps(other) for other in boxes[number + 1 :])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": []}, "0 images and 1 columns"),
        ({"columns": {}}, "1 images and 0 columns"),
        ({"columns": {"map": list(MAPS)}}, "2 arrays in the column 'map' were given; 1 are needed"),
        ({"columns": {"map": [MAPS]}}, r"expected \[h, w\]"),
        ({"columns": {"map": [MAPS[0] * np.nan]}}, "finite"),
        ({"columns": {"regions": [REGIONS[:4]]}}, "does not fit labels"),
        ({"names": ["a", "b"]}, "2 names"),
        ({"tokens": [(1, 2)]}, "give grid"),
        ({"tokens": [(4, 0)], "grid": (4, 6)}, "outside the patch grid"),
    ],
)
def test_overlays_that_are_refused(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"images": [IMAGE], "columns": {"map": [MAPS[0]]}, **changes}
    with pytest.raises(ValueError, match=message):
        overlay_figure(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"maps": MAPS[0]}, r"expected \[T, h, w\] for T = 2"),
        ({"thresholds": []}, "at least one threshold"),
        ({"thresholds": [1.2]}, "threshold is 1.2"),
        ({"names": ["a"]}, "1 names were given; 2 are needed"),
        ({"notes": [["a"]]}, "2 rows of 1"),
    ],
)
def test_masks_that_are_refused(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"image": IMAGE, "maps": MAPS, "tokens": [(0, 0), (1, 1)], "grid": (4, 6), **changes}
    with pytest.raises(ValueError, match=message):
        masks_figure(**arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"values": MAPS}, r"expected \[h, w\]"),
        ({"perturbed": {}}, "at least one order"),
        ({"perturbed": {"most": [IMAGE]}}, "1 images of the order 'most' were given; 2 are needed"),
        ({"perturbed": {"most": [IMAGE[:8]] * 2}}, "has shape"),
        ({"distances": {"least": [1, 2]}}, "distances of"),
        ({"distances": {"most": [1]}}, "1 distances were given; 2 are needed"),
    ],
)
def test_examples_that_are_refused(changes: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {
        "image": IMAGE, "values": MAPS[0], "perturbed": {"most": [IMAGE, IMAGE]}, "fractions": (0.1, 0.5),
        "token": (1, 2), "grid": (4, 6), **changes,
    }  # fmt: skip
    with pytest.raises(ValueError, match=message):
        perturbation_examples_figure(**arguments)
