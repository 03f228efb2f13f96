"""The control's interval, the result as numbers, and its figure."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ultra.insights.faithfulness import faithfulness_figure
from captum_ultra.insights.figures import save_figure
from captum_ultra.perturbation import FaithfulnessCurve, comprehensiveness, sufficiency
from captum_ultra.perturbation.text_control import random_orders, summarise_control
from captum_ultra.perturbation.text_removal import top_counts
from tests.perturbation.models import Witness
from tests.perturbation.test_text import KEYED


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(2, 12).flatmap(
        lambda orders: st.lists(
            st.lists(st.floats(-100, 100), min_size=3, max_size=3), min_size=orders, max_size=orders
        )
    ),
    confidence=st.floats(0.5, 0.99),
)
def test_the_interval_contains_the_mean(rows: list[list[float]], confidence: float) -> None:
    curves = torch.tensor(rows, dtype=torch.float64)
    control = summarise_control(curves, confidence, generator())
    low, high = control.interval
    slack = 1e-9 + 0.05 * curves.std(0)  # ends are quantiles of 10,000 resamples: skewed values, few of them
    assert (low <= control.curve + slack).all() and (control.curve <= high + slack).all()
    assert control.mean == pytest.approx(curves.mean().item(), abs=1e-9)
    assert (low >= curves.amin(0) - 1e-9).all() and (high <= curves.amax(0) + 1e-9).all()


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Normal values of mean 0, 20 orders: the interval of a mean should hold 0 in 95 of 100 cases."""
    values = torch.randn(400, 20, 1, dtype=torch.float64, generator=generator())
    ends = torch.stack([summarise_control(each, 0.95, generator(1)).mean_interval for each in values])
    covered = ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).double().mean().item()
    assert 0.92 <= covered <= 0.97
    expected = 2 * 1.96 * values[:, :, 0].std(1) / math.sqrt(20)
    torch.testing.assert_close((ends[:, 1] - ends[:, 0]).mean(), expected.mean(), rtol=0.02, atol=0)


def test_the_interval_of_the_mean_over_k_is_that_of_the_means() -> None:
    curves = torch.randn(20, 5, dtype=torch.float64, generator=generator())
    whole = summarise_control(curves, 0.9, generator(1))
    means = summarise_control(curves.mean(1, keepdim=True), 0.9, generator(1))
    torch.testing.assert_close(whole.mean_interval, means.interval[:, 0])
    torch.testing.assert_close(whole.mean_interval, means.mean_interval)


def test_random_orders_are_uniform() -> None:
    orders = random_orders(6000, 3, generator())
    counts = torch.stack([(orders == torch.tensor(each)).all(1).sum() for each in PERMUTATIONS])
    assert counts.sum() == 6000 and (counts - 1000).abs().max() < 130  # 4.5 standard deviations


PERMUTATIONS = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)]


def test_counts_are_rounded_up_exactly() -> None:
    assert top_counts([1, 5, 10, 20, 50], 100) == [1, 5, 10, 20, 50]
    assert top_counts([1, 5, 10, 20, 50], 101) == [2, 6, 11, 21, 51]
    assert top_counts([2.2], 1500) == [33], "in floating point a little more than 33"
    assert top_counts([0.001, 100], 1) == [1, 1]


def result(metric: str = "comprehensiveness", methods: int = 0) -> FaithfulnessCurve:
    scores = {f"method {index}": KEYED.scores * (-1) ** index for index in range(methods)} or None
    method = {"comprehensiveness": comprehensiveness, "sufficiency": sufficiency}[metric]
    return method(Witness(), KEYED, scores=scores, random_orders=9)


def test_p_values_count_random_orders_that_do_as_well() -> None:
    for metric in ("comprehensiveness", "sufficiency"):
        found = result(metric, methods=2)
        sign = 1 if metric == "comprehensiveness" else -1
        for row in range(2):
            ours = sum(found.curve[row].tolist()) / 5
            as_good = sum(sign * (sum(curve) / 5 - ours) >= 0 for curve in found.control.curves.tolist())
            assert found.p_value[row] == (1 + as_good) / 10
        assert found.p_value[0] < found.p_value[1] == 1


@pytest.mark.parametrize("methods", [0, 2])
def test_as_json(methods: int) -> None:
    found = result(methods=methods)
    numbers = json.loads(json.dumps(found.to_dict()))
    assert numbers["k"] == [1, 5, 10, 20, 50] and numbers["top"] == [1, 1, 1, 2, 5] and numbers["sources"] == 10
    torch.testing.assert_close(torch.tensor(numbers["curve"]).double(), found.curve, check_dtype=False)
    assert numbers["mean"] == found.mean.tolist() and numbers["p_value"] == found.p_value.tolist()
    assert numbers["control"]["orders"] == 9 and len(numbers["control"]["interval"]) == 2
    assert numbers["control"]["mean_interval"][0] <= numbers["control"]["mean"]
    assert numbers["names"] == [f"method {index}" for index in range(methods)]


def test_the_figure_shows_the_curves_and_the_control(tmp_path: Path) -> None:
    found = result(methods=2)
    figure = found.figure()
    (axes,) = figure.axes
    lines = {line.get_label(): line.get_ydata() for line in axes.lines}
    for row in range(2):
        assert list(lines[f"method {row}"]) == found.curve[row].tolist()
    assert list(lines["mean of 9 random orders"]) == found.control.curve.tolist()
    (band,) = axes.collections
    drawn = band.get_paths()[0].vertices[:, 1]
    assert drawn.min() == found.control.interval[0].min() and drawn.max() == found.control.interval[1].max()
    assert axes.get_title() == "comprehensiveness (higher is better)"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "5", "10", "20", "50"]
    assert axes.get_xlabel() == "top k % of 10 context tokens removed"
    assert [entry.get_text() for entry in figure.legends[0].get_texts()] == [
        "95% interval of the mean", "mean of 9 random orders", "method 0", "method 1",
    ]  # fmt: skip
    both = faithfulness_figure([result(), result("sufficiency")])
    assert [panel.get_title() for panel in both.axes] == [
        "comprehensiveness (higher is better)",
        "sufficiency (lower is better)",
    ]
    assert save_figure(both, tmp_path / "both.png").stat().st_size > 5000
    with pytest.raises(ValueError, match="at least one result"):
        faithfulness_figure([])
