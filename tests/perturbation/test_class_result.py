"""What a perturbation test of class explanations found: scores, intervals, files."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from captum_ultra.metrics import AOPC, LogOdds, PerturbationAUC
from captum_ultra.perturbation import ClassPerturbationResult
from tests.reference.class_faithfulness import trapezoid

STEPS = (0.1, 0.4, 0.8)


def random_result(count: int = 20, *, labels: bool = True) -> ClassPerturbationResult:
    generator = torch.Generator().manual_seed(0)
    predicted = torch.randint(0, 3, (count, 2, 3), generator=generator)
    log_probability = -3 * torch.rand(count, 2, 3, generator=generator).double()
    return ClassPerturbationResult(
        STEPS, ("positive", "negative"), predicted, log_probability,
        torch.randint(0, 3, (count,), generator=generator), -torch.rand(count, generator=generator).double(),
        torch.randint(0, 3, (count,), generator=generator),
        torch.randint(0, 3, (count,), generator=generator) if labels else None,
        settings={"seed": 3},
    )  # fmt: skip


def test_scores_of_images_against_lists() -> None:
    result = random_result()
    for column, order in enumerate(result.orders):
        for image in range(20):
            right = [float(each == result.labels[image]) for each in result.predicted[image, column]]
            p = math.exp(result.clean_log_probability[image])
            changed = [math.exp(each) for each in result.log_probability[image, column]]
            expected = {
                "accuracy_auc": 100 * trapezoid(right, STEPS),
                "probability_auc": trapezoid(changed, STEPS),
                "aopc": sum(p - each for each in changed) / 3,
                "log_odds": sum(math.log(each / p) for each in changed) / 3,
            }
            found = {name: result.per_image(name, order)[image].item() for name in expected}
            assert found == pytest.approx(expected)


def test_the_metrics_say_the_same() -> None:
    """Three classes, the explained one with its probability, the others alike."""
    result = random_result()
    p = result.log_probability[:, 0].exp()
    rest = ((1 - p) / 2)[..., None].expand(-1, -1, 3)
    index = result.targets.view(-1, 1, 1).expand(-1, 3, 1)
    scores = rest.scatter(2, index, p[..., None]).log()
    whole = result.clean_log_probability.exp()
    clean = ((1 - whole) / 2)[:, None].expand(-1, 3).scatter(1, result.targets[:, None], whole[:, None]).log()
    for metric, name in ((AOPC(STEPS), "aopc"), (LogOdds(STEPS), "log_odds")):
        metric.update(clean, scores, result.targets)
        torch.testing.assert_close(metric.per_image(), result.per_image(name, "positive"))
        assert metric.interval().low == pytest.approx(result.score(name, "positive").low)
    metric = PerturbationAUC(STEPS)
    metric.update(torch.nn.functional.one_hot(result.predicted[:, 0], 3).double(), result.labels)
    torch.testing.assert_close(metric.per_image(), result.per_image("accuracy_auc", "positive"))
    torch.testing.assert_close(metric.curve(), result.curve("accuracy", "positive").mean)


def test_intervals_are_those_of_means_over_images() -> None:
    result = random_result(200)
    for quantity in ("accuracy", "probability", "drop", "log_odds"):
        values = result.values(quantity, "positive")
        curve = result.curve(quantity, "positive")
        torch.testing.assert_close(curve.mean, values.mean(0))
        error = values.std(0) / 200**0.5
        torch.testing.assert_close(curve.high - curve.low, 2 * 1.96 * error, rtol=0.15, atol=0)
        assert (curve.low < curve.mean).all() and (curve.mean < curve.high).all()


def test_differences_are_taken_within_images() -> None:
    result = random_result()
    shifted = dataclasses.replace(result, log_probability=result.log_probability[:, :1] + torch.tensor([[[0], [-0.5]]]))
    found = shifted.difference("log_odds", "positive", "negative")
    assert (found.low, found.mean, found.high) == pytest.approx((0.5, 0.5, 0.5))
    assert shifted.score("log_odds", "positive").high - shifted.score("log_odds", "positive").low > 0.1


@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_files(tmp_path: Path, suffix: str, labels: bool) -> None:
    result = random_result(labels=labels)
    path = tmp_path / f"result{suffix}"
    result.save(path)
    again = ClassPerturbationResult.load(path)
    for field in dataclasses.fields(result):
        one, two = getattr(result, field.name), getattr(again, field.name)
        if isinstance(one, torch.Tensor):
            assert torch.equal(one, two) and one.dtype == two.dtype
        else:
            assert one == two
    with pytest.raises(ValueError, match=r"\.json or \.npz"):
        result.save(tmp_path / "result.csv")
    with pytest.raises(ValueError, match=r"\.json or \.npz"):
        ClassPerturbationResult.load(tmp_path / "result.csv")


def test_plain_numbers_hold_the_summary() -> None:
    plain = json.loads(json.dumps(random_result().to_dict(), allow_nan=False))
    found = random_result().score("aopc", "negative")
    assert plain["summary"]["negative"]["aopc"] == [found.mean, found.low, found.high]
    assert plain["settings"] == {"seed": 3} and "accuracy_auc" in plain["summary"]["positive"]
    single = json.loads(json.dumps(random_result(1, labels=False).to_dict(), allow_nan=False))
    assert single["summary"]["positive"]["aopc"][1:] == [None, None]
    assert single["labels"] is None and "accuracy_auc" not in single["summary"]["positive"]


def test_questions_without_an_answer() -> None:
    result = random_result(labels=False)
    with pytest.raises(ValueError, match="labels="):
        result.score("accuracy_auc", "positive")
    with pytest.raises(ValueError, match="'positive', 'negative'"):
        result.curve("probability", "random")
    with pytest.raises(ValueError, match="'accuracy', 'probability'"):
        result.values("entropy", "positive")
    with pytest.raises(ValueError, match="'accuracy_auc', 'probability_auc'"):
        result.per_image("auc", "positive")
    single = dataclasses.replace(
        result, steps=(0.5,), predicted=result.predicted[..., :1], log_probability=result.log_probability[..., :1]
    )
    assert set(single.summary()["positive"]) == {"aopc", "log_odds"}
    with pytest.raises(ValueError, match="two steps"):
        single.score("probability_auc", "positive")


def test_results_that_do_not_fit() -> None:
    result = random_result()
    with pytest.raises(ValueError, match="images, orders, steps"):
        dataclasses.replace(result, steps=(0.1,))
    with pytest.raises(ValueError, match="labels"):
        dataclasses.replace(result, labels=result.labels[:3])
    with pytest.raises(ValueError, match="confidence"):
        dataclasses.replace(result, confidence=95)
    with pytest.raises(ValueError, match="give at least one"):
        ClassPerturbationResult.concatenate([])
    with pytest.raises(ValueError, match="settings differ"):
        ClassPerturbationResult.concatenate([result, dataclasses.replace(result, settings={"seed": 4})])
    with pytest.raises(ValueError, match="settings differ"):
        ClassPerturbationResult.concatenate([result, dataclasses.replace(result, labels=None)])
