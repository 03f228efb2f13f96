"""Perturbation metrics against lists of numbers, and as torchmetrics."""

from __future__ import annotations

import math
import pickle
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from captum_ultra.metrics import AOPC, DeletionAUC, InsertionAUC, LogOdds, PerturbationAUC
from tests.reference.class_faithfulness import trapezoid

STEPS = (0.1, 0.25, 0.7, 0.9)


def random_case(seed: int, count: int = 5, steps: int = 4, classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of whole [B, K] and changed images [B, S, K], and classes [B]."""
    generator = torch.Generator().manual_seed(seed)
    clean = 3 * torch.randn(count, classes, generator=generator, dtype=torch.float64)
    scores = 3 * torch.randn(count, steps, classes, generator=generator, dtype=torch.float64)
    return clean, scores, torch.randint(0, classes, (count,), generator=generator)


def probability(logits: Tensor, target: int) -> float:
    exponentials = [math.exp(each) for each in logits.tolist()]
    return exponentials[target] / sum(exponentials)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(1, 4),
    steps=st.lists(st.integers(1, 99), min_size=2, max_size=6, unique=True),
    classes=st.integers(2, 5),
)
def test_against_lists(seed: int, count: int, steps: list[int], classes: int) -> None:
    shares = [each / 100 for each in sorted(steps)]
    clean, scores, target = random_case(seed, count, len(shares), classes)
    accuracy, drop, log_odds, areas = [], [], [], []
    for image in range(count):
        label = int(target[image])
        p = probability(clean[image], label)
        changed = [probability(row, label) for row in scores[image]]
        accuracy.append(100 * trapezoid([float(row.argmax() == label) for row in scores[image]], shares))
        drop.append(sum(p - each for each in changed) / len(shares))
        log_odds.append(sum(math.log(each / p) for each in changed) / len(shares))
        areas.append(trapezoid(changed, shares))
    for metric, arguments, expected in (
        (PerturbationAUC(shares), (scores, target), accuracy),
        (AOPC(shares), (clean, scores, target), drop),
        (LogOdds(shares), (clean, scores, target), log_odds),
        (InsertionAUC(shares), (scores, target), areas),
        (DeletionAUC(shares), (scores, target), areas),
    ):
        metric.update(*arguments)
        assert metric.per_image().tolist() == pytest.approx(expected)
        assert metric.compute().item() == pytest.approx(sum(expected) / count)


def every_metric() -> list[tuple[Any, Any]]:
    """Metrics, and what they are called with out of a random case."""
    return [
        (PerturbationAUC(STEPS), lambda clean, scores, target: (scores, target)),
        (AOPC(STEPS), lambda *case: case),
        (LogOdds(STEPS), lambda *case: case),
        (InsertionAUC(STEPS), lambda clean, scores, target: (scores, target)),
        (DeletionAUC(STEPS), lambda clean, scores, target: (scores, target)),
    ]


@pytest.mark.parametrize("index", range(5))
def test_batches_ranks_pickling_and_precision(index: int) -> None:
    case = random_case(index, count=6)
    metric, arguments = every_metric()[index]
    metric.update(*arguments(*case))
    whole, curve = metric.compute(), metric.curve()
    ranks = [every_metric()[index][0] for _ in range(2)]
    for rank, share in zip(ranks, (range(2), range(2, 6)), strict=True):
        for image in share:
            rank.update(*arguments(*(each[image : image + 1] for each in case)))
    ranks[0] = pickle.loads(pickle.dumps(ranks[0]))
    ranks[0]._sync_dist(lambda state, group=None: [state, torch.cat(ranks[1].curves)])
    torch.testing.assert_close(ranks[0].compute(), whole)
    torch.testing.assert_close(ranks[0].curve(), curve)
    assert len(ranks[0].per_image()) == 6
    low = tuple(each.bfloat16() if each.is_floating_point() else each for each in case)
    half, exact = every_metric()[index][0], every_metric()[index][0]
    half.update(*arguments(*low))
    exact.update(*arguments(*(each.double() if each.is_floating_point() else each for each in low)))
    torch.testing.assert_close(half.compute(), exact.compute())
    metric.reset()
    assert not len(metric.per_image())


@pytest.mark.parametrize("index", range(5))
def test_intervals_and_plots(index: int) -> None:
    metric, arguments = every_metric()[index]
    with pytest.raises(ValueError, match="no image"):
        metric.plot()
    metric.update(*arguments(*random_case(7, count=12)))
    found, (low, high) = metric.interval(), metric.curve_interval()
    assert found.low < found.mean < found.high and found.mean == pytest.approx(metric.compute().item())
    assert (low <= metric.curve()).all() and (metric.curve() <= high).all() and (low < high).all()
    _, axes = metric.plot()
    line = axes.lines[0].get_xydata()
    assert line[:, 0].tolist() == list(STEPS) and line[:, 1].tolist() == pytest.approx(metric.curve().tolist())
    assert len(axes.collections) == 1
    _, again = metric.plot(torch.zeros(4), axes)
    assert again is axes and len(axes.collections) == 1
    with pytest.raises(ValueError, match="4 steps"):
        metric.plot(torch.zeros(3))


def test_probabilities_in_place_of_logits() -> None:
    clean, scores, target = random_case(2)
    for metric in (AOPC, LogOdds):
        torch.testing.assert_close(
            metric(STEPS, logits=False)(clean.softmax(-1), scores.softmax(-1), target),
            metric(STEPS)(clean, scores, target),
        )
    torch.testing.assert_close(
        DeletionAUC(STEPS, logits=False)(scores.softmax(-1), target), DeletionAUC(STEPS)(scores, target)
    )
    with pytest.raises(ValueError, match="give logits"):
        LogOdds(STEPS, logits=False)(clean.softmax(-1), torch.zeros_like(scores), target)
    with pytest.raises(ValueError, match="give logits"):
        InsertionAUC(STEPS, logits=False)(scores, target)


def test_the_predicted_class_is_the_default() -> None:
    clean, scores, _ = random_case(4)
    torch.testing.assert_close(AOPC(STEPS)(clean, scores), AOPC(STEPS)(clean, scores, clean.argmax(-1)))


def test_log_odds_are_exact_where_probabilities_underflow() -> None:
    clean, scores = torch.tensor([[0.0, 0.0]]), torch.tensor([[[-2000.0, 0.0]]]).expand(1, 4, 2)
    assert LogOdds(STEPS)(clean, scores, torch.tensor([0])).item() == pytest.approx(-2000 + math.log(2))


def test_a_perfect_curve_has_the_area_of_the_steps() -> None:
    scores = torch.tensor([0.0, 1.0]).expand(3, 9, 2)
    assert PerturbationAUC()(scores, torch.tensor([1, 1, 1])).item() == pytest.approx(80)
    assert InsertionAUC()(1000 * torch.tensor([0.0, 1.0]).expand(1, 21, 2), torch.tensor([1])).item() == 1


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PerturbationAUC((0.0, 0.5)), "both excluded"),
        (lambda: AOPC((0.5, 1.0)), "both excluded"),
        (lambda: LogOdds(()), "both excluded"),
        (lambda: InsertionAUC((0.0, 1.1)), "from 0 to 1"),
        (lambda: PerturbationAUC((0.5, 0.1)), "increase"),
        (lambda: AOPC((0.5, 0.5)), "increase"),
        (lambda: PerturbationAUC((0.5,)), "at least two"),
        (lambda: DeletionAUC((0.5,)), "at least two"),
    ],
)
def test_steps(make: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c, s, t: (c, s[:, :2], t), r"\[B, 4, K\]"),
        (lambda c, s, t: (c, s.long(), t), "floating point"),
        (lambda c, s, t: (c, s, t[:2]), r"integers \[5\]"),
        (lambda c, s, t: (c, s, t.double()), "integers"),
        (lambda c, s, t: (c, s, t + 3), "0 .. 2"),
        (lambda c, s, t: (c, s, t - 3), "0 .. 2"),
        (lambda c, s, t: (c[:, :2], s, t), r"\[5, 3\]"),
        (lambda c, s, t: (c, s * torch.nan, t), "not finite"),
        (lambda c, s, t: (c[0], s, None), r"\[B, K\]"),
    ],
)
def test_bad_input_changes_nothing(change: Any, words: str) -> None:
    metric = AOPC(STEPS)
    with pytest.raises(ValueError, match=words):
        metric.update(*change(*random_case(0)))
    assert metric.curves == []
