"""What the figures of perturbation tests show."""

from __future__ import annotations

import pytest
import torch

from captum_ultra.insights.faithfulness_curves import faithfulness_curves_figure, orders_figure
from captum_ultra.perturbation import ClassPerturbationResult
from captum_ultra.perturbation.class_result import QUANTITIES


def random_result(*orders: str, count: int = 8, labels: bool = True) -> ClassPerturbationResult:
    shape = (count, len(orders), 3)
    zeros = torch.zeros(count).long()
    return ClassPerturbationResult(
        (0.1, 0.5, 0.9), orders, torch.randint(0, 2, shape), -torch.rand(shape).double(), zeros,
        -torch.rand(count).double(), zeros, zeros if labels else None,
    )  # fmt: skip


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_curves_and_bands_are_those_of_the_results(quantity: str) -> None:
    results = {name: random_result("positive", "negative", "random") for name in ("GAE", "TokenTM", "LeGrad")}
    figure = faithfulness_curves_figure(results, quantity)
    assert len(figure.axes) == 2
    for axes, order in zip(figure.axes, ("positive", "negative"), strict=True):
        lines = {line.get_label(): line for line in axes.lines}
        assert list(lines) == ["random order", *results] and len(axes.collections) == 4
        for number, (name, result) in enumerate(results.items()):
            curve = result.curve(quantity, order)
            assert lines[name].get_xdata().tolist() == list(curve.steps)
            assert lines[name].get_ydata().tolist() == curve.mean.tolist()
            band = axes.collections[number + 1].get_paths()[0].vertices[:, 1]
            assert band.min() == pytest.approx(curve.low.min().item())
            assert band.max() == pytest.approx(curve.high.max().item())
        control = next(iter(results.values())).curve(quantity, "random").mean
        assert lines["random order"].get_ydata().tolist() == control.tolist()
    assert [each.get_text() for each in figure.legends[0].get_texts()] == ["random order", *results]
    assert len({tuple(line.get_color()) for line in figure.axes[0].lines}) == 4


def test_panels_are_the_orders_in_common() -> None:
    one, two = random_result("positive", "negative"), random_result("positive", labels=False)
    figure = faithfulness_curves_figure({"a": one, "b": two})
    assert [axes.get_title().split(" removed")[0] for axes in figure.axes] == ["most relevant"]
    assert figure.axes[0].get_ylabel() == "probability of the class"
    figure = faithfulness_curves_figure({"a": random_result("insertion", "deletion", "random_insertion")})
    assert [len(axes.lines) for axes in figure.axes] == [2, 1]


def test_twelve_methods_are_told_apart() -> None:
    figure = faithfulness_curves_figure({str(number): random_result("positive") for number in range(12)})
    looks = {(tuple(line.get_color()), line.get_linestyle()) for line in figure.axes[0].lines}
    assert len(looks) == 12


def test_one_image_has_no_band() -> None:
    figure = faithfulness_curves_figure({"a": random_result("positive", count=1)})
    assert not figure.axes[0].collections


@pytest.mark.parametrize(
    "orders",
    [("positive", "negative", "random"), ("deletion", "insertion", "random_deletion", "random_insertion")],
)
def test_one_result_with_all_its_orders(orders: tuple[str, ...]) -> None:
    result = random_result(*orders)
    axes = orders_figure(result).axes[0]
    assert axes.get_ylabel() == "accuracy" and len(axes.lines) == len(axes.collections) == len(orders)
    for line, order in zip(axes.lines, orders, strict=True):
        assert line.get_ydata().tolist() == result.curve("accuracy", order).mean.tolist()
    looks = {(tuple(line.get_color()), line.get_linestyle()) for line in axes.lines}
    assert len(looks) == len(orders)
    assert result.figure("drop").axes[0].get_ylabel() == "probability lost"


def test_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        faithfulness_curves_figure({})
    with pytest.raises(ValueError, match="in common"):
        faithfulness_curves_figure({"a": random_result("positive"), "b": random_result("negative")})
    with pytest.raises(ValueError, match="unknown"):
        faithfulness_curves_figure({"a": random_result("positive")}, "entropy")
    with pytest.raises(ValueError, match="labels="):
        orders_figure(random_result("positive", labels=False), "accuracy")
