"""The segmentation experiment: its methods, what it keeps, its intervals and tables, and a small run of the whole."""

import json
import sys

import pytest
import torch

from captum_ultra import LatentTokenAttribution
from captum_ultra.data import Scenes, render_scene
from captum_ultra.experiments import rows
from captum_ultra.experiments import scene_segmentation as experiment
from captum_ultra.experiments.cell_store import CellStore
from captum_ultra.experiments.last_block import last_block_rows
from captum_ultra.experiments.scene_ultra_w import learned_score
from captum_ultra.experiments.segmentation_methods import LAYERLESS, METHODS, Found, Sight, segment_scene
from captum_ultra.experiments.segmentation_sheet import draw_sheet
from captum_ultra.experiments.segmentation_tables import (
    accuracy,
    miou,
    parts_table,
    perturbation_table,
    score_table,
    summary_table,
)
from captum_ultra.intervals import Interval, bootstrap
from captum_ultra.models.vit import VisionTransformer, ViTConfig, scenes_vit
from captum_ultra.segmentation.ultra_w_settings import UltraWSettings
from tests.reference.segmentation import average_linkage, enlarged, pixel_labels

FEW = UltraWSettings(samples=2, epochs=2, batch_size=2, n_clusters=2)


@pytest.fixture
def model():
    return VisionTransformer(ViTConfig(dim=16, depth=2, heads=2)).eval()


@pytest.fixture
def sight(model):
    return Sight(model, render_scene(seed=0, index=0), {("ULTra_W", 2): torch.randn(16)})


@pytest.mark.parametrize("method", METHODS)
def test_every_method_labels_every_pixel_with_the_number_of_regions_given(sight, method):
    found = segment_scene(sight, method, 0 if method in LAYERLESS else 2)
    assert found.labels.shape == (64, 64) and found.labels.dtype == torch.int64
    assert 1 < len(found.labels.unique()) <= sight.regions
    again = segment_scene(sight, method, 0 if method in LAYERLESS else 2)
    assert torch.equal(found.labels, again.labels)


@pytest.mark.parametrize(("method", "layer"), [("ULTra_S", 3), ("rollout", 0), ("k-means of pixels", 1)])
def test_a_layer_that_a_method_lacks_is_named(sight, method, layer):
    with pytest.raises(ValueError, match=f"{method} has no layer {layer}"):
        segment_scene(sight, method, layer)


def test_unknown_methods_and_missing_scores_are_named(sight):
    with pytest.raises(ValueError, match="'magic' is unknown"):
        segment_scene(sight, "magic", 1)
    with pytest.raises(ValueError, match="needs a score for layer 1"):
        segment_scene(sight, "ULTra_W", 1)


def test_rollout_is_clustered_as_maps_of_ultra_are():
    model = VisionTransformer(ViTConfig(patch_size=16, dim=16, depth=2, heads=2)).eval()
    sight = Sight(model, render_scene(seed=0, index=0), {})
    matrix = rows.rollout_rows(sight.run, torch.arange(16), 2).clone()
    for token in range(16):
        matrix[token, token] = torch.cat([matrix[token, :token], matrix[token, token + 1 :]]).max()
    found = segment_scene(sight, "rollout", 2)
    assert torch.allclose(found.maps, matrix.view(16, 4, 4))
    large = enlarged(found.maps.double(), (64, 64), "bilinear")
    assert found.labels.tolist() == pixel_labels(large, average_linkage(large, sight.regions))


def test_one_block_alone_is_the_whole_of_ultra_after_one_block():
    model = scenes_vit()
    x = model.preprocess(render_scene(seed=1, index=1).image)[None]
    entering = rows.record(model, x).latents[0]
    alone = last_block_rows(model.blocks[0], entering, "energy").fill_diagonal_(0)
    tokens = [0, 17, 255]
    whole = LatentTokenAttribution(model).attribute(
        x, token=tokens, layer=1, score="energy", self_token="zero", output="patches"
    )
    assert torch.allclose(alone[tokens], whole[0], rtol=1e-4, atol=1e-7)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_truth_itself_scores_one(sight):
    target = sight.scene.instances
    found = experiment.scored(Found(target + 0), sight)
    assert miou(found) == 1 and accuracy(found) == 1 and found["itiou"] is None
    own = torch.nn.functional.one_hot(target).permute(2, 0, 1)[target[2::4, 2::4].flatten()].float()
    assert experiment.scored(Found(target, own), sight)["itiou"] > 0.9


def test_scores_against_pixels_counted_one_by_one(sight):
    labels = torch.zeros_like(sight.scene.instances)
    found = experiment.scored(Found(labels), sight)
    counts = sight.scene.instances.flatten().bincount()
    largest = int(counts.max())
    assert accuracy(found) == pytest.approx(largest / 64**2)
    assert miou(found) == pytest.approx(largest / 64**2 / len(counts))


def test_intervals_hold_their_share_of_the_means():
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(100):
        found = bootstrap(torch.randn(60, generator=generator).double())
        hits += found.low < 0 < found.high
    assert 88 <= hits <= 99
    assert bootstrap(torch.tensor([2.0]).double()).low != bootstrap(torch.tensor([2.0]).double()).low
    with pytest.raises(ValueError, match="finite"):
        bootstrap(torch.tensor([1.0, float("nan")]))


def test_tables_show_best_layers_and_differences_within_scenes():
    def of(hits):
        return {"confusion": [[hits, 0, 10 - hits], [0, 10, 0]], "itiou": None}

    cells = {("a", 1): [of(4), of(6)], ("a", 2): [of(6), of(8)], ("b", 0): [of(2), of(10)]}
    table = score_table(cells, miou).splitlines()
    assert table[0] == "| method | no layer | layer 1 | layer 2 |"
    assert table[2] == "| a |  | 0.750 [0.700, 0.800] | **0.850 [0.800, 0.900]** |"
    assert score_table(cells, lambda found: found["itiou"]).count("\n") == 1
    lines = summary_table(cells, ("a", 2)).splitlines()[2:]
    assert lines[0] == "| a, layer 2 | 0.850 [0.800, 0.900] | 0.850 [0.800, 0.900] |  |  |"
    assert lines[1].startswith("| b | 0.800 [0.600, 1.000] |") and lines[1].endswith(
        " | +0.050 [-0.100, +0.200] | 50% |"
    )
    assert summary_table(cells, ("b", 0)).splitlines()[3].startswith("| a, layer 2 | ")


def test_background_and_objects_are_told_apart():
    found = {"confusion": [[8, 0, 0, 2], [0, 5, 0, 5], [0, 0, 10, 0]], "itiou": None}
    table = parts_table({("a", 2): [found, found], ("a", 1): [found], ("b", 0): [found, found]}, 2).splitlines()
    assert table[2:] == [f"| {name} | 0.800 [0.800, 0.800] | 0.750 [0.750, 0.750] |" for name in ("a", "b")]


def test_the_perturbation_table_holds_means_by_order():
    cells = {("a", 1): [{"distances": [[2.0, 4.0], [1.0, 1.0], [1.5, 2.0]]}] * 3}
    line = perturbation_table(cells, (0.25, 0.75), 0.75).splitlines()[2]
    expected = ("4.00 [4.00, 4.00]", "1.00 [1.00, 1.00]", "2.00 [2.00, 2.00]", "3.00 [3.00, 3.00]", "1.00 [1.00, 1.00]")
    assert line == "| a | 1 | " + " | ".join(expected) + " |"


def test_a_line_cut_short_is_computed_again_and_other_settings_are_refused(tmp_path):
    path = tmp_path / "cells.jsonl"
    store = CellStore(path, {"fractions": (0.5,)})
    store.add(("a", 0), {"x": 1})
    store.add(("a", 1), {"x": 2})
    path.write_bytes(path.read_bytes()[:-4])
    store = CellStore(path, {"fractions": (0.5,)})
    assert list(store) == [("a", 0)]
    store.add(("a", 1), {"x": 3})
    assert CellStore(path, {"fractions": (0.5,)})["a", 1] == {"x": 3}
    with pytest.raises(ValueError, match="holds results of"):
        CellStore(path, {"fractions": (0.25,)})
    path.write_text("no results\n")
    with pytest.raises(ValueError, match="does not hold results"):
        CellStore(path, {})


def test_a_learned_score_is_trained_once_and_refused_for_other_settings(tmp_path, model):
    first = learned_score(model, 1, tmp_path, FEW)
    assert [file.name for file in tmp_path.iterdir()] == ["ultra_w-layer1.safetensors"]
    assert torch.equal(learned_score(model, 1, tmp_path, FEW).weights, first.weights)
    with pytest.raises(ValueError, match="was trained with"):
        learned_score(model, 1, tmp_path, UltraWSettings())


def test_ultra_finds_regions_far_better_than_pixels_do(tmp_path):
    run = experiment.Experiment(scenes_vit(), Scenes(2, seed=1), CellStore(tmp_path / "cells.jsonl", {}))
    run.run(["ULTra_S", "k-means of pixels"], [2])
    cells = run.segmentations(["ULTra_S", "k-means of pixels"], [2])
    mean = {method: sum(map(miou, each)) / 2 for (method, _), each in cells.items()}
    assert mean["ULTra_S"] > mean["k-means of pixels"] + 0.05


def test_the_command_prints_tables_and_goes_on_where_it_stopped(tmp_path, monkeypatch, capsys):
    table = tmp_path / "table.md"
    methods = ["--methods", "ULTra_S", "rollout", "k-means of pixels"]
    arguments = ["run", "--layers", "1", *methods, "--ours", "ULTra_S:1", "--noise", "0.25"]
    arguments += ["--folder", str(tmp_path), "--markdown", str(table)]
    monkeypatch.setattr(sys, "argv", [*arguments, "--scenes", "1"])
    experiment.main()
    assert table.read_text() == capsys.readouterr().out
    assert "positive minus negative" in table.read_text() and "oracle" in table.read_text()
    asked = []
    finish = experiment.segment_scene
    monkeypatch.setattr(experiment, "segment_scene", lambda *a: asked.append(a[1:]) or finish(*a))
    monkeypatch.setattr(sys, "argv", [*arguments, "--scenes", "2"])
    experiment.main()
    assert asked == [("ULTra_S", 1), ("rollout", 1), ("k-means of pixels", 0)]
    lines = (tmp_path / "seed0-noise0.25.jsonl").read_text().splitlines()
    assert json.loads(lines[0])["settings"]["noise"] == 0.25 and len(lines) == 1 + 2 * 4


def test_the_sheet_has_a_column_a_scene(tmp_path, model):
    figure = draw_sheet(model, Scenes(2), (("rollout", 2), ("k-means of pixels", 0)))
    assert len(figure.axes) == 2 * 4 and all(len(axis.images) == 1 for axis in figure.axes)
    figure.savefig(tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 5000


def test_an_interval_reads_as_one_text():
    assert str(Interval(0.5, 0.25, 0.75)) == "0.500 [0.250, 0.750]"
