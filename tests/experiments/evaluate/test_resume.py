"""An evaluation that is interrupted loses nothing, repeats nothing, and ends as if it never had been."""

from __future__ import annotations

import multiprocessing
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from captum_ultra.data.scene_segmentation import SceneSegmentation
from captum_ultra.experiments.evaluate import Report, evaluate
from captum_ultra.experiments.evaluate.ultra.segmentation import SegmentationStudy
from tests.experiments.evaluate.small import options, run, small_model

STUDY = "ultra-segmentation"
MANY = {"images": 40}


def lines(folder: Path) -> list[str]:
    """One an image, without the line of the options."""
    return (folder / "images.jsonl").read_text().splitlines()[1:]


def measured(report: Report) -> tuple[Any, Any]:
    return report.rows, report.results


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the images that are measured."""
    numbers: list[int] = []
    measure = SegmentationStudy.measure

    def remembered(self: SegmentationStudy, x: Any, target: Any, number: int) -> Any:
        numbers.append(number)
        return measure(self, x, target, number)

    monkeypatch.setattr(SegmentationStudy, "measure", remembered)
    return numbers


def interrupt_at(image: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while that image is read."""
    read = SceneSegmentation.__getitem__

    def interrupted(self: SceneSegmentation, index: int) -> Any:
        if index == image:
            raise KeyboardInterrupt
        return read(self, index)

    monkeypatch.setattr(SceneSegmentation, "__getitem__", interrupted)


@pytest.mark.parametrize("torn", ["", '{"key": ["scene-0-2"], "val'], ids=["whole", "torn"])
def test_interrupted_is_uninterrupted(torn: str, tmp_path: Path, counted: list[int]) -> None:
    whole = run(STUDY, tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        interrupt_at(2, patch)
        run(STUDY, tmp_path / "parts")
    assert len(lines(tmp_path / "parts")) == 2 and not (tmp_path / "parts" / "report.json").exists()
    with (tmp_path / "parts" / "images.jsonl").open("a") as file:
        file.write(torn)
    counted.clear()
    parts = run(STUDY, tmp_path / "parts")
    assert counted == [2, 3]
    assert measured(parts) == measured(whole) and str(parts) == str(whole)
    assert lines(tmp_path / "parts") == lines(tmp_path / "whole")


def test_a_finished_evaluation_computes_nothing(tmp_path: Path, counted: list[int]) -> None:
    first = run(STUDY, tmp_path)
    counted.clear()
    assert measured(run(STUDY, tmp_path)) == measured(first) and counted == []


def test_more_images_add_to_those_that_are_there(tmp_path: Path, counted: list[int]) -> None:
    run(STUDY, tmp_path / "parts", images=2)
    counted.clear()
    more = run(STUDY, tmp_path / "parts", images=4)
    assert counted == [2, 3]
    assert measured(more) == measured(run(STUDY, tmp_path / "whole", images=4))
    assert len(run(STUDY, tmp_path / "parts", images=1).results) == 1


def test_ultra_w_goes_on_with_its_training(tmp_path: Path) -> None:
    whole = run(STUDY, tmp_path / "whole", score="w")
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("tqdm.std.tqdm.set_postfix", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        run(STUDY, tmp_path / "parts", score="w")
    assert (tmp_path / "parts" / "ultra_w-layer2.checkpoint").is_file() and not lines(tmp_path / "parts")
    assert measured(run(STUDY, tmp_path / "parts", score="w")) == measured(whole)


def test_a_folder_of_other_options_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    run(STUDY, tmp_path, images=1)
    before = {each: each.read_bytes() for each in tmp_path.iterdir()}
    with pytest.raises(ValueError, match=r"other options \(score: 'sum', now 'energy', layer: 2, now 1\)"):
        run(STUDY, tmp_path, score="energy", layer=1)
    with pytest.raises(ValueError, match="study: 'ultra-segmentation', now 'ultra-tau'"):
        run("ultra-tau", tmp_path)
    with pytest.raises(ValueError, match="weights: "):
        evaluate(options(STUDY), tmp_path, loaded=small_model(seed=1))
    assert {each: each.read_bytes() for each in tmp_path.iterdir()} == before
    # The same layer by its other name.
    run(STUDY, tmp_path, images=1, layer=2)


def test_a_damaged_folder_is_named(tmp_path: Path) -> None:
    run(STUDY, tmp_path, images=1)
    (tmp_path / "options.json").write_text("{")
    with pytest.raises(ValueError, match=r"options\.json does not hold the options"):
        run(STUDY, tmp_path)


def test_killed_by_the_system(tmp_path: Path) -> None:
    """SIGKILL, which nothing can catch, some images after the first."""
    # Forked, as this process has imported everything already.
    process = multiprocessing.get_context("fork").Process(target=run, args=(STUDY, tmp_path / "parts"), kwargs=MANY)
    process.start()
    kept, limit = tmp_path / "parts" / "images.jsonl", time.monotonic() + 60
    while time.monotonic() < limit and process.is_alive():
        if kept.is_file() and kept.read_bytes().count(b"\n") >= 2:
            break
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it had ended before it was killed"
    finished = kept.read_bytes().count(b"\n") - 1
    assert 1 <= finished < MANY["images"]
    assert measured(run(STUDY, tmp_path / "parts", **MANY)) == measured(run(STUDY, tmp_path / "whole", **MANY))
