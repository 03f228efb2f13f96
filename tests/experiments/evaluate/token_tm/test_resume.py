"""An evaluation that is interrupted loses nothing, repeats nothing, and ends as if it never had been."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from captum_ultra.data.object_scene_samples import ObjectSceneMasks
from captum_ultra.experiments.evaluate import Report, evaluate
from captum_ultra.experiments.evaluate.token_tm.localization import LocalizationStudy
from tests.experiments.evaluate.token_tm.small import options, run, small_classifier

STUDY = "tokentm-localization"
ONE = {"methods": ("rollout",)}


def measured(report: Report) -> tuple[Any, Any]:
    return report.rows, report.results


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the images that are measured."""
    numbers: list[int] = []
    measure = LocalizationStudy.measure

    def remembered(self: Any, x: Any, sample: Any, logits: Any, number: int) -> Any:
        numbers.append(number)
        return measure(self, x, sample, logits, number)

    monkeypatch.setattr(LocalizationStudy, "measure", remembered)
    return numbers


def interrupt_at(image: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while that image is read."""
    read = ObjectSceneMasks.__getitem__

    def interrupted(self: ObjectSceneMasks, index: int) -> Any:
        if index == image:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(ObjectSceneMasks, "__getitem__", interrupted)


@pytest.mark.parametrize("torn", ["", '{"key": ["object-scene-0-2"], "val'], ids=["whole", "torn"])
def test_interrupted_is_uninterrupted(torn: str, tmp_path: Path, counted: list[int]) -> None:
    whole = run(STUDY, tmp_path / "whole", **ONE)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(2, patch)
        run(STUDY, tmp_path / "parts", **ONE)
    kept = tmp_path / "parts" / "images.jsonl"
    assert len(kept.read_text().splitlines()) == 3 and not (tmp_path / "parts" / "report.json").exists()
    with kept.open("a") as file:
        file.write(torn)
    counted.clear()
    parts = run(STUDY, tmp_path / "parts", **ONE)
    assert counted == [2, 3]
    assert measured(parts) == measured(whole) and str(parts) == str(whole)
    assert kept.read_text() == (tmp_path / "whole" / "images.jsonl").read_text()


def test_more_images_add_to_those_that_are_there(tmp_path: Path, counted: list[int]) -> None:
    run(STUDY, tmp_path, images=2, **ONE)
    counted.clear()
    assert len(run(STUDY, tmp_path, images=4, **ONE).results) == 4 and counted == [2, 3]


def test_a_folder_of_other_options_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    run(STUDY, tmp_path, images=1, **ONE)
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"other options \(methods: \['rollout'\], now \['gae'\]\)"):
        run(STUDY, tmp_path, methods=("gae",))
    with pytest.raises(ValueError, match=r"explained: \['predicted'\], now \['target'\]"):
        run(STUDY, tmp_path, explained=("target",), **ONE)
    with pytest.raises(ValueError, match="weights: "):
        evaluate(options(STUDY, **ONE), tmp_path, loaded=small_classifier(seed=1))
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before
    run(STUDY, tmp_path, images=1, explained=("predicted",), **ONE)  # the same in other words
