"""Figures: what is drawn where, on which scale; what is refused; that pyplot stays untouched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captum_ultra.figures.panels import ColorScale
from captum_ultra.insights.figures import explain_figure, save_figure, token_layers_figure

IMAGE = np.linspace(0, 1, 32 * 48 * 3).reshape(32, 48, 3)
MAPS = np.random.default_rng(0).random((2, 3, 8, 12))


def layers_figure(**changes: Any) -> Any:
    arguments: dict[str, Any] = {
        "image": IMAGE,
        "tokens": [(1, 2), (7, 11)],
        "maps": MAPS,
        "layers": [1, 4, 12],
        "grid": (8, 12),
        **changes,
    }
    return token_layers_figure(**arguments)


def test_rows_are_tokens_and_columns_are_layers() -> None:
    figure = layers_figure(names=["ring", "star"], notes=[["a", "b", "c"], ["d", "e", "f"]], score="energy")
    panels = figure.axes[:-1]
    assert len(panels) == 2 * 4
    assert [panel.get_title() for panel in panels[:4]] == ["scene", "layer 1", "layer 4", "layer 12"]
    assert [panels[0].get_ylabel(), panels[4].get_ylabel()] == ["ring\ntoken (1, 2)", "star\ntoken (7, 11)"]
    assert [panel.texts[0].get_text() for panel in (*panels[1:4], *panels[5:8])] == list("abcdef")
    assert figure.axes[-1].get_ylabel() == "relevance (score: energy)"


def test_the_token_is_outlined_in_every_panel_where_it_is() -> None:
    panels = layers_figure().axes[:-1]
    for panel in panels[4:]:
        (frame,) = panel.patches
        assert (frame.get_x(), frame.get_y(), frame.get_width(), frame.get_height()) == (44, 28, 4, 4)


def test_all_maps_share_one_colour_scale() -> None:
    maps = np.zeros((2, 3, 8, 12))
    maps[0, 0], maps[1, 2] = 1.0, 2.0
    figure = layers_figure(maps=maps, percentile=100)
    colors = [panel.images[0].get_array() for panel in figure.axes[:-1]]
    weak, strong, none = colors[1], colors[7], colors[6]
    assert strong.sum() > weak.sum() > none.sum()
    assert figure.axes[-1].get_ylim() == (0, 2)


def test_one_map_or_several_beside_the_image() -> None:
    one = explain_figure(
        IMAGE, MAPS[0, 0], token=(0, 0), grid=(8, 12), titles=["layer 9, score sum"], caption="a model"
    )
    assert [axes.get_title() for axes in one.axes] == ["image", "layer 9, score sum", ""]
    assert one.axes[0].get_xlabel() == "a model"
    several = explain_figure(IMAGE[..., 0], MAPS[0])
    assert len(several.axes) == 1 + 3 + 1 and not several.axes[0].patches


def test_the_map_lies_over_the_image_where_it_belongs() -> None:
    heat = np.zeros((8, 12))
    heat[7, 0] = 1
    drawn = explain_figure(np.zeros((32, 48, 3)), heat, percentile=100).axes[1].images[0].get_array()
    bright = drawn.sum(axis=2) > drawn.sum(axis=2).max() / 2
    rows, columns = np.nonzero(bright)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (28, 31, 0, 3)


def test_tensors_are_welcome() -> None:
    explain_figure(torch.rand(8, 8, 3), torch.rand(8, 8))
    layers_figure(maps=torch.rand(2, 3, 8, 12))


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg", ".jpg", ".PNG"])
def test_saved_files(tmp_path: Path, suffix: str) -> None:
    path = save_figure(layers_figure(), tmp_path / "new" / f"figure{suffix}", dpi=60)
    assert path.stat().st_size > 1000
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_text_stays_text_in_svg(tmp_path: Path) -> None:
    path = save_figure(layers_figure(), tmp_path / "figure.svg")
    assert "layer 12" in path.read_text()


def test_text_and_panels_do_not_overlap() -> None:
    figure = layers_figure(names=["triangle", "star"])
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    boxes = [axes.get_tightbbox(renderer) for axes in figure.axes]
    page = figure.bbox
    for number, box in enumerate(boxes):
        assert box.x0 >= page.x0 - 1 and box.y1 <= page.y1 + 1
        assert not any(box.overlaps(other) for other in boxes[number + 1 :])


def test_pyplot_is_left_alone(tmp_path: Path) -> None:
    import matplotlib
    from matplotlib import pyplot

    settings, open_figures = dict(matplotlib.rcParams), pyplot.get_fignums()
    save_figure(layers_figure(), tmp_path / "figure.png", dpi=60)
    assert dict(matplotlib.rcParams) == settings and pyplot.get_fignums() == open_figures


def test_one_extreme_entry_does_not_darken_the_rest() -> None:
    values = np.ones(10_000)
    values[0] = 1e6
    assert ColorScale.of(values).high == pytest.approx(1)


def test_all_zero_maps_have_a_scale() -> None:
    assert ColorScale.of(np.zeros(4)) == ColorScale(0, 1, "magma")
    layers_figure(maps=np.zeros_like(MAPS))


def test_maps_without_a_place_that_stands_out_say_so() -> None:
    maps = MAPS.copy()
    maps[0, 0], maps[1, 2] = 0, 2
    figure = layers_figure(maps=maps, notes=[["a", "b", "c"], ["d", "e", "f"]])
    notes = [[text.get_text() for text in panel.texts] for panel in figure.axes[:8]]
    assert notes == [[], ["zero:\nno relevance", "a"], ["b"], ["c"], [], ["d"], ["e"], ["the same\neverywhere", "f"]]


def test_text_is_no_mathematics(tmp_path: Path) -> None:
    figure = layers_figure(names=["a$_b", "$x_$"], score="$^$")
    assert "a$_b" in save_figure(figure, tmp_path / "figure.svg").read_text()


def test_undershoot_of_enlarged_maps_is_no_sign() -> None:
    assert ColorScale.of([-0.05, 0.2, 1.0]).low == 0
    assert ColorScale.of([-0.9, 0.2, 1.0]).low < 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image": np.zeros((3, 32, 32))}, r"permute\(1, 2, 0\)"),
        ({"image": IMAGE * 255}, "expected 0..1"),
        ({"image": np.zeros((0, 4, 3))}, "not empty"),
        ({"maps": MAPS[0]}, r"expected \[T, L, h, w\] for T = 2 tokens and L = 3"),
        ({"maps": MAPS * np.nan}, "finite"),
        ({"layers": [1, 2]}, "L = 2 layers"),
        ({"names": ["ring"]}, "1 names were given for 2 tokens"),
        ({"notes": [["a", "b", "c"]]}, "2 rows of 3"),
        ({"tokens": [(1, 2), (8, 0)]}, "outside the patch grid of 8 x 12"),
        ({"percentile": 0}, "percentile is 0"),
    ],
)
def test_what_cannot_be_drawn_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        layers_figure(**changes)


def test_a_token_needs_a_grid() -> None:
    with pytest.raises(ValueError, match="give grid"):
        explain_figure(IMAGE, MAPS[0, 0], token=(0, 0))
    with pytest.raises(ValueError, match="2 titles were given for 1 maps"):
        explain_figure(IMAGE, MAPS[0, 0], titles=["a", "b"])
    with pytest.raises(ValueError, match=r"expected \[h, w\]"):
        explain_figure(IMAGE, MAPS)


@pytest.mark.parametrize("name", ["figure.doc", "figure", "figure.npz"])
def test_unknown_suffixes_list_the_known(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"possible are .*\.pdf.*\.png.*\.svg"):
        save_figure(layers_figure(), tmp_path / name)
    assert not list(tmp_path.iterdir())


def test_every_suffix_that_is_offered_can_be_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="possible are") as refused:
        save_figure(layers_figure(), tmp_path / "figure.doc")
    offered = str(refused.value).partition("possible are ")[2].rstrip(".").split(", ")
    assert {".png", ".pdf", ".svg"} <= set(offered)
    for suffix in offered:
        assert save_figure(layers_figure(), tmp_path / f"figure{suffix}", dpi=20).stat().st_size


def test_channels_are_moved_as_the_message_says() -> None:
    image = IMAGE.transpose(2, 0, 1)
    with pytest.raises(ValueError, match=r"image.permute\(1, 2, 0\), of an array image.transpose\(1, 2, 0\)"):
        layers_figure(image=image)
    layers_figure(image=image.transpose(1, 2, 0))
    layers_figure(image=torch.from_numpy(image).permute(1, 2, 0))


def test_a_file_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "figure.png").mkdir()
    with pytest.raises(IsADirectoryError):
        save_figure(layers_figure(), tmp_path / "figure.png")


def test_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = layers_figure()
    old = tmp_path / "figure.png"
    old.write_text("the old picture")

    def fail(path: Path, **options: Any) -> None:
        Path(path).write_text("half a pic")
        raise OSError("disk full")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="disk full"):
        save_figure(figure, old)
    assert old.read_text() == "the old picture" and list(tmp_path.iterdir()) == [old]
