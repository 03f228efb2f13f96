"""What the figures of evaluations draw: every measured number, its interval, and the published one."""

from __future__ import annotations

import pytest

from captum_ultra.experiments.evaluate.grid import as_grid
from captum_ultra.experiments.evaluate.rows import Row, as_text
from captum_ultra.insights.evaluation import curves_figure, panels_figure, points_figure
from captum_ultra.intervals import Interval

NAN = float("nan")
ROWS = [
    Row("ULTra_S", "U.ACC", Interval(61.0, 60.0, 62.0), published=60.8),
    Row("ULTra_S", "U.mIoU", Interval(34.0, NAN, NAN)),
]
SWEPT = [
    *(Row("ULTra_S", "U.mIoU", Interval(at * 100, at * 90, at * 110), at=at, published=52.0) for at in (0.2, 0.4)),
    Row("ULTra_S", "U.mIoU", Interval(49.0, 48.0, 50.0)),
    *(Row("ULTra_S", "regions", Interval(9.0, 8.0, 10.0), at=at, unit="") for at in (0.2, 0.4)),
]


def test_points() -> None:
    (axes,) = points_figure(ROWS).axes
    drawn = [line.get_xydata().tolist() for line in axes.lines]
    assert drawn == [[[60.0, 0], [62.0, 0]], [[61.0, 0]], [[60.8, 0]], [[34.0, 1]]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["measured", "published"]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["ULTra_S, U.ACC", "ULTra_S, U.mIoU"]


def test_curves() -> None:
    first, second = curves_figure(SWEPT, "zeta").axes
    assert first.get_title() == "U.mIoU (%)" and second.get_title() == "regions"
    drawn = [line.get_xydata().tolist() for line in first.lines]
    assert [[0.2, 20.0], [0.4, 40.0]] in drawn and [[0.2, 52.0]] in drawn and [[0, 49.0], [1, 49.0]] in drawn
    texts = [text.get_text() for text in first.get_legend().get_texts()]
    assert texts == ["ULTra_S", "published", "ULTra_S, oracle k"]


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match=r"one unit.*; panels_figure draws several"):
        points_figure([*ROWS, SWEPT[-1]])
    panels_figure([*ROWS, SWEPT[-1]])
    with pytest.raises(ValueError, match="no row has a place on the axis; panels_figure draws rows without"):
        curves_figure(ROWS, "zeta")
    panels_figure(ROWS)


def test_text_says_what_is_not_published() -> None:
    header, first, second = as_text(ROWS).splitlines()
    assert header.split() == ["score", "metric", "measured,", "95", "%", "interval", "published"]
    assert "61.00 % [60.00, 62.00]" in first and first.endswith("60.80 %")
    assert "34.00 % [one image]" in second and second.endswith("not published")


def test_a_grid_has_a_line_a_name_and_a_column_a_metric() -> None:
    rows = [
        Row("all", "accuracy", Interval(90.0, NAN, NAN)),
        Row("GAE", "AOPC", Interval(0.5, 0.25, 0.75), unit="", digits=3),
        Row("GAE", "mIoU", Interval(61.0, 60.0, 62.0), published=61.56),
        Row("random", "mIoU", Interval(30.0, 29.0, 31.0)),
        Row("random", "AOPC", Interval(0.1, 0.0, 0.2), unit="", digits=3),
        Row("other", "mIoU", Interval(1.0, 0.0, 2.0)),
    ]
    header, gae, random, other, empty, accuracy, missing = as_grid(rows, "method").splitlines()
    assert header.split() == ["method", "AOPC", "mIoU", "(%)", "published"]
    assert gae.split() == ["GAE", "0.500", "[0.250,", "0.750]", "61.00", "[60.00,", "62.00]", "61.56"]
    assert random.split() == ["random", "0.100", "[0.000,", "0.200]", "30.00", "[29.00,", "31.00]", "-"]
    assert other.split() == ["other", "-", "1.00", "[0.00,", "2.00]", "-"] and empty == ""
    assert accuracy == "accuracy (%) of all: 90.00 [one image]"
    assert missing == "not published for these data and this model: AOPC"


def test_panels_draw_every_metric_of_every_name() -> None:
    rows = [
        *ROWS,
        Row("other", "U.ACC", Interval(50.0, 49.0, 51.0)),
        Row("other", "AOPC", Interval(0.5, 0.4, 0.6), unit=""),
    ]
    accuracy, miou, aopc = panels_figure(rows).axes
    assert [axes.get_title() for axes in (accuracy, miou, aopc)] == ["U.ACC (%)", "U.mIoU (%)", "AOPC"]
    drawn = [line.get_xydata().tolist() for line in accuracy.lines]
    assert drawn == [[[60.0, 0], [62.0, 0]], [[61.0, 0]], [[60.8, 0]], [[49.0, 1], [51.0, 1]], [[50.0, 1]]]
    assert [line.get_xydata().tolist() for line in aopc.lines] == [[[0.4, 1], [0.6, 1]], [[0.5, 1]]]
    assert [label.get_text() for label in accuracy.get_yticklabels()] == ["ULTra_S", "other"]
    with pytest.raises(ValueError, match="no rows"):
        panels_figure([])
