"""The perturbation figure: three curves a panel with their bars; one fraction or one image draws as well."""

from __future__ import annotations

import pytest
import torch

from captum_ultra.insights.perturbation import perturbation_figure
from captum_ultra.perturbation.latent_result import LatentPerturbationResult


def result_of(images: int = 6, fractions: tuple[float, ...] = (0.1, 0.5, 0.9)) -> LatentPerturbationResult:
    generator = torch.Generator().manual_seed(0)
    return LatentPerturbationResult(fractions, torch.rand(images, 3, len(fractions), generator=generator).double())


def test_curves_bars_and_area() -> None:
    result = result_of()
    (axes,) = perturbation_figure([result], ["mask"]).axes
    lines = [container.lines[0] for container in axes.containers]
    assert [line.get_ydata().tolist() for line in lines] == result.curve.tolist()
    segments = axes.containers[0].lines[2][0].get_segments()
    assert [segment[0][1] for segment in segments] == pytest.approx(result.interval[0, 0].tolist())
    assert [segment[1][1] for segment in segments] == pytest.approx(result.interval[1, 0].tolist())
    assert axes.get_title().startswith("mask\narea between the curves ")
    legend = [text.get_text() for text in axes.get_legend().get_texts()]
    assert legend == ["most relevant first", "least relevant first", "random order"]


def test_little_data_draws_too() -> None:
    first, second = perturbation_figure([result_of(1), result_of(6, (0.5,))]).axes
    assert "[" not in first.get_title() and second.get_title() == ""
    assert len(result_of().figure().axes) == 1


def test_arguments() -> None:
    with pytest.raises(ValueError, match="results is empty"):
        perturbation_figure([])
    with pytest.raises(ValueError, match="2 titles were given for 1 results"):
        perturbation_figure([result_of()], ["a", "b"])
