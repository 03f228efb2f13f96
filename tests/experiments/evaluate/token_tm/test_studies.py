"""Every study against its protocol written out over images, maps and pixels."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from captum_ultra import AttentionRollout, GenericAttention, TokenTM
from captum_ultra.data.object_scenes import ObjectScene, ObjectScenes
from captum_ultra.experiments.evaluate import Report, TokenTMOptions, evaluate
from captum_ultra.experiments.evaluate.rows import Row
from captum_ultra.models.loader import LoadedModel
from tests.experiments.evaluate.token_tm import explicit
from tests.experiments.evaluate.token_tm.small import DEPTH, SIDE, options, run, small_classifier

IMAGES, GRID = 4, 8
CLASSES = {"GAE": GenericAttention, "TokenTM": TokenTM, "rollout": AttentionRollout}
NAMES = {"gae": "GAE", "token_tm": "TokenTM", "rollout": "rollout"}


def scenes() -> list[ObjectScene]:
    data = ObjectScenes(IMAGES, 0, SIDE)
    return [data[index] for index in range(IMAGES)]


def maps(method: Any, classes: list[int], **more: Any) -> list[np.ndarray]:
    """Of every scene and the class that is explained in it."""
    found, model = [], small_classifier().model
    for scene, target in zip(scenes(), classes, strict=True):
        patches = method(model).attribute(model.preprocess(scene.image)[None], target=target, output="patches", **more)
        found.append(explicit.scaled(patches.flatten(1), GRID, SIDE))
    return found


def predicted() -> list[int]:
    return explicit.logits_of(small_classifier().model, [scene.image for scene in scenes()]).argmax(1).tolist()


def labels() -> list[int]:
    return [scene.label for scene in scenes()]


def value(rows: list[Row], name: str, metric: str) -> float:
    (found,) = (row.measured.mean for row in rows if (row.name, row.metric) == (name, metric))
    return found


def areas(found: list[np.ndarray]) -> dict[str, float]:
    """By order, the area under the accuracy against the label, times 100."""
    result = {}
    for order in ("negative", "positive"):
        curve = []
        for step in explicit.STEPS:
            changed = [
                explicit.blackened(scene.image, each, step, order == "positive")
                for scene, each in zip(scenes(), found, strict=True)
            ]
            guesses = explicit.logits_of(small_classifier().model, changed).argmax(1).tolist()
            curve.append(float(np.mean([guess == label for guess, label in zip(guesses, labels(), strict=True)])))
        result[order] = 100 * explicit.trapezoid(curve)
    return result


@pytest.mark.parametrize("explained", ["predicted", "target"])
def test_localization(explained: str, tmp_path: Path) -> None:
    report = run("tokentm-localization", tmp_path, explained=(explained,))
    classes = predicted() if explained == "predicted" else labels()
    for name, method in CLASSES.items():
        expected = explicit.located(maps(method, classes), [scene.mask.numpy() for scene in scenes()])
        for metric, number in expected.items():
            assert value(report.rows, name, metric) == pytest.approx(number, abs=1e-3), (name, metric)


def test_both_classes_are_told_apart(tmp_path: Path) -> None:
    assert predicted() != labels()
    rows = run("tokentm-localization", tmp_path, explained=("target", "predicted")).rows
    for explained, classes in (("predicted", predicted()), ("target", labels())):
        expected = explicit.located(maps(TokenTM, classes), [scene.mask.numpy() for scene in scenes()])
        assert value(rows, "TokenTM", f"{explained} class, mIoU") == pytest.approx(expected["mIoU"], abs=1e-3)


def test_accuracy(tmp_path: Path) -> None:
    report = run("tokentm-accuracy", tmp_path, methods=("token_tm", "rollout"))
    right = [guess == label for guess, label in zip(predicted(), labels(), strict=True)]
    assert value(report.rows, "unperturbed images", "accuracy") == pytest.approx(100 * np.mean(right))
    for explained, classes in (("predicted", predicted()), ("target", labels())):
        for name in ("TokenTM", "rollout"):
            for order, number in areas(maps(CLASSES[name], classes)).items():
                found = value(report.rows, name, f"{explained} class, {order} AUC")
                assert found == pytest.approx(number, abs=1e-9), (explained, name, order)


def test_probability(tmp_path: Path) -> None:
    report, model = run("tokentm-probability", tmp_path), small_classifier().model
    for name, method in CLASSES.items():
        drops, odds = [], []
        for scene, target, found in zip(scenes(), predicted(), maps(method, predicted()), strict=True):
            before = explicit.logits_of(model, [scene.image]).softmax(1)[0, target]
            changed = [explicit.blackened(scene.image, found, step, True) for step in explicit.STEPS]
            after = explicit.logits_of(model, changed).softmax(1)[:, target]
            drops.append(float((before - after).mean()))
            odds.append(float((after / before).log().mean()))
        assert value(report.rows, name, "AOPC") == pytest.approx(np.mean(drops), abs=1e-5)
        assert value(report.rows, name, "log-odds") == pytest.approx(np.mean(odds), abs=1e-5)


@pytest.mark.parametrize(
    ("row", "arguments"),
    [
        ("baseline", {"aggregation": False, "length": False, "necc": False}),
        ("+ aggregation", {"length": False, "necc": False}),
        ("+ L", {"necc": False}),
        ("+ NECC", {}),
        ("first block", {"first_blocks": 1}),
        ("first 3 blocks", {"first_blocks": 3}),
    ],
)
def test_ablation(row: str, arguments: dict, ablation: Report) -> None:
    found = maps(TokenTM, predicted(), **arguments)
    expected = explicit.located(found, [scene.mask.numpy() for scene in scenes()])
    for metric, number in expected.items():
        assert value(ablation.rows, row, metric) == pytest.approx(number, abs=1e-3)
    for order, number in areas(found).items():
        assert value(ablation.rows, row, f"{order} AUC") == pytest.approx(number, abs=1e-9)


@pytest.fixture(scope="module")
def ablation(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return run("tokentm-ablation", tmp_path_factory.mktemp("ablation"), methods=())


def test_rows_of_the_ablation(ablation: Report) -> None:
    names = list(dict.fromkeys(row.name for row in ablation.rows))
    parts = ["baseline", "+ aggregation", "+ L", "+ NECC"]
    assert names == [*parts, "first block", "first 2 blocks", "first 3 blocks", "random map"] and DEPTH == 4
    # Parts that change nothing would be rows that are equal.
    maps_differ = {tuple(row.measured.mean for row in ablation.rows if row.name == name) for name in names}
    assert len(maps_differ) == len(names)


def test_the_random_map_depends_on_seed_and_image_only(tmp_path: Path) -> None:
    def random_of(report: Report) -> dict[str, Any]:
        return {name: each["predicted"]["random map"] for name, each in report.results.items()}

    first = random_of(run("tokentm-localization", tmp_path / "a"))
    other_methods = run("tokentm-localization", tmp_path / "b", methods=("raw_attention",), images=2)
    assert random_of(other_methods) == {name: first[name] for name in other_methods.results}
    assert len({str(each) for each in first.values()}) == IMAGES


def test_what_the_study_does_to_the_model(tmp_path: Path) -> None:
    loaded = small_classifier()
    loaded.model.train()
    state = {name: each.clone() for name, each in loaded.model.state_dict().items()}
    report = evaluate(options("tokentm-accuracy", images=1), tmp_path, loaded=loaded)
    assert loaded.model.training and all(parameter.requires_grad for parameter in loaded.model.parameters())
    assert all(torch.equal(state[name], each) for name, each in loaded.model.state_dict().items())
    assert all(math.isnan(row.measured.low) for row in report.rows) and "[one image]" in str(report)


@pytest.mark.parametrize("study", ["localization", "accuracy", "probability", "ablation"])
def test_reports_say_how_and_draw(study: str, tmp_path: Path) -> None:
    more = {"methods": ()} if study == "ablation" else {}
    report = run(f"tokentm-{study}", tmp_path, images=3, **more)
    text = (tmp_path / "report.txt").read_text()
    assert text == f"{report}\n" and "3 of 3 images" in text and "not published" in text
    assert "predicted" in report.study.protocol and "method" in text
    assert (tmp_path / "report.png").stat().st_size > 1000
    lines = (tmp_path / "report.csv").read_text().splitlines()
    assert len(lines) == 1 + len(report.rows) and lines[0].startswith("row,at,metric")
    assert all(row.measured.low <= row.measured.mean <= row.measured.high for row in report.rows)


def test_options_of_another_family(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="ultra-tau takes Options, not TokenTMOptions"):
        evaluate(TokenTMOptions("ultra-tau"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_method_that_cannot_explain_the_model_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from captum_ultra import UnsupportedModelError

    def refuse(*_: object, **__: object) -> None:
        raise UnsupportedModelError("Foo.bar is not covered")

    monkeypatch.setattr(AttentionRollout, "attribute", refuse)
    with pytest.raises(UnsupportedModelError, match=r"rollout: Foo\.bar is not covered; other methods can be asked"):
        run("tokentm-localization", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_weights_that_make_no_map(tmp_path: Path) -> None:
    loaded = small_classifier()
    with torch.no_grad():
        loaded.model.head.weight.fill_(float("nan"))
    broken = LoadedModel(loaded.model, "broken", loaded.preprocess, loaded.mean, loaded.std)
    with pytest.raises((ValueError, TypeError)):
        evaluate(options("tokentm-localization"), tmp_path / "out", loaded=broken)
    assert not (tmp_path / "out").exists()
