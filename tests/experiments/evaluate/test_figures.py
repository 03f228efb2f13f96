"""What the figures of evaluations draw: every measured number, its interval, and the published one."""

from __future__ import annotations

import pytest

from captum_ultra.experiments.evaluate.rows import Row, as_text
from captum_ultra.insights.evaluation import curves_figure, points_figure
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
    with pytest.raises(ValueError, match="one unit"):
        points_figure([*ROWS, SWEPT[-1]])
    with pytest.raises(ValueError, match="no row has a place"):
        curves_figure(ROWS, "zeta")


def test_text_says_what_is_not_published() -> None:
    header, first, second = as_text(ROWS).splitlines()
    assert header.split() == ["score", "metric", "measured,", "95", "%", "interval", "published"]
    assert "61.00 % [60.00, 62.00]" in first and first.endswith("60.80 %")
    assert "34.00 % [one image]" in second and second.endswith("not published")
