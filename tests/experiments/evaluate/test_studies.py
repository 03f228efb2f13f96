"""Every study against the classes a user would take for one image after another."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from captum_ultra import GenericAttention, LatentTokenAttribution
from captum_ultra.data.registry import segmentation_dataset
from captum_ultra.experiments.evaluate.rows import Row
from captum_ultra.metrics import InitialTokenIoU, MatchedSegmentation
from captum_ultra.perturbation.latent_test import LatentPerturbationTest
from captum_ultra.segmentation import LatentTokenSegmenter, gt_unique
from captum_ultra.segmentation.ultra_w import UltraW
from tests.experiments.evaluate.small import DEPTH, SIDE, ULTRA, run, small_model

IMAGES = 4


def samples() -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs [1, 3, H, W] and targets [1, H, W], made without the package's own evaluation."""
    data, model = segmentation_dataset("scenes", size=SIDE, length=IMAGES, seed=0), small_model().model
    return [(model.preprocess(each.image)[None], each.labels[None]) for each in (data[i] for i in range(IMAGES))]


def value(rows: list[Row], metric: str, name: str = "ULTra_S", at: float | None = None) -> float:
    (found,) = (row.measured.mean for row in rows if (row.metric, row.name, row.at) == (metric, name, at))
    return found


def matched(layer: int = DEPTH, score: object = "sum", threshold: float | None = None) -> dict[str, float]:
    """In percent, by the metric over the whole set."""
    metric = MatchedSegmentation(protocol="image")
    segmenter = LatentTokenSegmenter(small_model().model, layer, score)
    for x, target in samples():
        k = gt_unique(target) if threshold is None else None
        metric.update(segmenter.segment(x, n_clusters=k, threshold=threshold).labels, target)
    return {name: 100 * float(each) for name, each in metric.compute().items()}


def selected(tau: float, layer: int = DEPTH) -> float:
    metric, explain = InitialTokenIoU(threshold=tau), LatentTokenAttribution(small_model().model)
    for x, target in samples():
        maps = explain.attribute(x, token="patches", layer=layer, score="sum", output="patches")
        metric.update(maps.unflatten(-1, (8, 8)), target)
    return 100 * float(metric.compute())


def assert_matched(rows: list[Row], expected: dict[str, float], name: str = "ULTra_S", at: float | None = None) -> None:
    names = {"U.ACC": "accuracy", "U.mIoU": "miou", "mean mIoU of an image": "image_miou"}
    for metric, key in names.items():
        assert value(rows, metric, name, at) == pytest.approx(expected[key], abs=1e-9)


def test_segmentation(tmp_path: Path) -> None:
    assert_matched(run("ultra-segmentation", tmp_path).rows, matched())


def test_segmentation_at_a_distance(tmp_path: Path) -> None:
    report = run("ultra-segmentation", tmp_path, zeta=0.01, score="energy", layer=1)
    assert "cut at distance 0.01" in str(report) and "ORACLE" not in str(report)
    assert_matched(report.rows, matched(1, "energy", 0.01), "ULTra_E")


def test_ultra_w_is_trained_and_stands_beside_its_start(tmp_path: Path) -> None:
    report = run("ultra-segmentation", tmp_path, score="w")
    score = UltraW.load(tmp_path / "ultra_w-layer2.safetensors")
    assert len(score.losses) == 3 and not list(tmp_path.glob("*.checkpoint"))
    assert_matched(report.rows, matched())
    assert_matched(report.rows, matched(score=score), "ULTra_W")


def test_layers(tmp_path: Path) -> None:
    rows = run("ultra-layers", tmp_path).rows
    for layer in range(1, DEPTH + 1):
        assert_matched(rows, matched(layer), at=layer)
        assert value(rows, "ITIoU", at=layer) == pytest.approx(selected(0.2, layer), abs=1e-9)


def test_object_selection_and_tau(tmp_path: Path) -> None:
    (row,) = run("ultra-object-selection", tmp_path / "one").rows
    assert row.measured.mean == pytest.approx(selected(0.2), abs=1e-9)
    rows = run("ultra-tau", tmp_path / "many", values=(0.1, 0.6)).rows
    assert [value(rows, "ITIoU", at=tau) for tau in (0.1, 0.6)] == pytest.approx([selected(0.1), selected(0.6)])


def test_one_explanation_serves_all_zetas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    explained, attribute = [], GenericAttention.attribute

    def counted(*arguments: object, **named: object) -> object:
        explained.append(1)
        return attribute(*arguments, **named)

    monkeypatch.setattr(GenericAttention, "attribute", counted)
    rows = run("ultra-zeta", tmp_path, values=(0.001, 0.01, 0.1)).rows
    assert len(explained) == IMAGES
    assert_matched(rows, matched())
    for zeta in (0.001, 0.01, 0.1):
        assert_matched(rows, matched(threshold=zeta), at=zeta)
    regions = [value(rows, "regions of an image", at=zeta) for zeta in (0.001, 0.01, 0.1)]
    assert regions == sorted(regions, reverse=True) and regions[0] > regions[-1]


def test_perturbation(tmp_path: Path) -> None:
    report = run("ultra-perturbation", tmp_path, values=(0.25, 0.5))
    for mode in ("mask", "noise"):
        test = LatentPerturbationTest(small_model().model, DEPTH, (0.25, 0.5), score="sum", mode=mode)
        expected = test.run([x[0] for x, _ in samples()])
        for order, curve in zip(("positive", "negative", "random"), expected.curve, strict=True):
            assert value(report.rows, f"{mode}: {order}", at=0.5) == float(curve[1])
        assert value(report.rows, f"{mode}: area between the curves") == expected.area


@pytest.mark.parametrize("study", ULTRA)
def test_reports_say_how_and_draw(study: str, tmp_path: Path) -> None:
    more = {"values": (0.5,)} if study == "ultra-perturbation" else {}
    report = run(study, tmp_path, images=2, **more)
    text = (tmp_path / "report.txt").read_text()
    assert text == f"{report}\n" and "2 of 2 images" in text and "not published" in text
    assert ("ORACLE" in text) == (study in ("ultra-segmentation", "ultra-layers", "ultra-zeta"))
    assert ('protocol "image"' in text) == ("ORACLE" in text)
    assert (tmp_path / "report.png").stat().st_size > 1000
    lines = (tmp_path / "report.csv").read_text().splitlines()
    assert len(lines) == 1 + len(report.rows) and lines[0].startswith("row,at,metric")
    assert all(row.measured.low <= row.measured.mean <= row.measured.high for row in report.rows)


def test_a_single_image_has_no_interval(tmp_path: Path) -> None:
    report = run("ultra-segmentation", tmp_path, images=1)
    assert all(math.isnan(row.measured.low) for row in report.rows)
    assert "[one image]" in str(report) and report.rows[0].to_dict()["low"] is None
