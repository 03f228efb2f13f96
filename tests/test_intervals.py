"""Percentile intervals over images."""

from __future__ import annotations

import math

import pytest
import torch

from captum_ultra.intervals import bootstrap, bootstrap_of, interval_ends, resampled_means


def test_means_of_draws_are_those_of_single_draws() -> None:
    values = torch.rand(7, 2, 3).double()
    means = resampled_means(values)
    drawn = torch.randint(7, (2000, 7), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(means, values[drawn].mean(1))


def test_one_column_is_the_plain_bootstrap() -> None:
    values = torch.randn(30, 2).double()
    for confidence in (0.5, 0.95):
        mean, low, high = bootstrap_of(values, confidence=confidence)
        for column in range(2):
            single = bootstrap(values[:, column], confidence)
            found = (mean[column].item(), low[column].item(), high[column].item())
            assert found == pytest.approx((single.mean, single.low, single.high))


def test_intervals_cover_the_mean_as_often_as_they_say() -> None:
    generator = torch.Generator().manual_seed(1)
    draws = torch.rand(300, 40, generator=generator).double()
    covered = sum(found.low < 0.5 < found.high for found in map(bootstrap, draws))
    assert 0.89 < covered / 300 < 0.99


def test_a_statistic_of_means() -> None:
    values = torch.rand(20, 2).double() + 1
    ratio, low, high = bootstrap_of(values, lambda means: means[:, 0] / means[:, 1])
    assert ratio.item() == pytest.approx(values[:, 0].sum().item() / values[:, 1].sum().item())
    assert low < ratio < high


def test_one_image_and_bad_values() -> None:
    mean, low, high = bootstrap_of(torch.tensor([[1.0, 2.0]]))
    assert mean.tolist() == [1, 2] and low.isnan().all() and high.isnan().all()
    assert math.isnan(bootstrap(torch.tensor([1.0])).low)
    for values in (torch.empty(0, 2), torch.tensor([[math.nan]]), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="values must be"):
            bootstrap_of(values)
    with pytest.raises(ValueError, match="confidence"):
        interval_ends(torch.rand(5), 95)


def test_ends_leave_out_as_much_on_both_sides() -> None:
    draws = torch.arange(1001.0)
    for confidence, ends in ((0.95, [25, 975]), (0.5, [250, 750])):
        torch.testing.assert_close(interval_ends(draws, confidence), torch.tensor(ends).float())
