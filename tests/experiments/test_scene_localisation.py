"""The localisation measure: its area under the curve, its baselines, and a small run of the whole."""

import json
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_ultra.data import Scenes
from captum_ultra.experiments import rows
from captum_ultra.experiments import scene_localisation as experiment
from captum_ultra.experiments.auc import roc_auc
from captum_ultra.models.vit import VisionTransformer, ViTConfig, scenes_vit


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30))
def test_auc_counts_pairs(pairs):
    scores = torch.tensor([score for score, _ in pairs]).double()
    positive = torch.tensor([flag for _, flag in pairs])
    if positive.all() or not positive.any():
        with pytest.raises(ValueError, match="only"):
            roc_auc(scores, positive)
        return
    gaps = scores[positive][:, None] - scores[~positive]
    counted = ((gaps > 0).double() + 0.5 * (gaps == 0)).mean()
    assert roc_auc(scores, positive).item() == pytest.approx(counted.item())


def test_auc_agrees_with_scikit_learn_row_by_row():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(4, 300, generator=generator).round(decimals=1)
    positive = torch.rand(4, 300, generator=generator) < 0.2
    expected = [metrics.roc_auc_score(p, s) for p, s in zip(positive.numpy(), scores.numpy(), strict=True)]
    assert roc_auc(scores, positive).tolist() == pytest.approx(expected)
    with pytest.raises(ValueError, match="one shape"):
        roc_auc(scores, positive[0])


def test_targets_lie_wholly_in_their_object():
    for index in range(10):
        scene = Scenes(10)[index]
        tokens, objects = experiment.targets(scene, 4, 3, seed=index)
        for token, instance in zip(tokens.tolist(), objects.tolist(), strict=True):
            row, column = divmod(token, 16)
            patch = scene.instances[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
            assert (patch == instance).all()
        assert objects.bincount().max() <= 3


def test_the_mask_itself_has_area_one_on_both_grids():
    scene = Scenes(1)[0]
    tokens, objects = experiment.targets(scene, 4, 2, seed=0)
    perfect = experiment.coverage(scene, 4)[objects].float()
    assert experiment.area_on_patches(perfect, scene, tokens, objects, 4) == 1
    assert experiment.area_on_pixels(perfect, scene, tokens, objects, 4) > 0.97
    assert experiment.area_on_patches(-perfect, scene, tokens, objects, 4) == 0


def test_rollout_and_raw_rows_against_the_full_matrices():
    torch.manual_seed(0)
    model = VisionTransformer(ViTConfig(image_size=16, dim=16, depth=3, heads=2)).eval()
    run = rows.record(model, torch.randn(1, 3, 16, 16))
    assert len(run.latents) == 4 and len(run.attentions) == 3
    assert all(torch.allclose(a.sum(1), torch.ones(16)) for a in run.attentions)
    full = torch.eye(16)
    for attention in run.attentions:
        step = attention + torch.eye(16)
        full = step / step.sum(1, keepdim=True) @ full
    tokens = torch.tensor([3, 7])
    assert torch.allclose(rows.rollout_rows(run, tokens, 3), full[tokens], atol=1e-6)
    assert torch.equal(rows.raw_rows(run, tokens, 2), run.attentions[1][tokens])


def test_ultra_finds_objects_far_above_chance():
    result = experiment.localise(scenes_vit(), Scenes(4, seed=1), per_object=1)
    for method in ("ULTra_S", "ULTra_E"):
        assert max(cell.mean for cell in result[method].values()) > 0.9
    assert set(result) == set(experiment.METHODS)


def test_the_command_prints_and_writes_the_table(tmp_path, monkeypatch, capsys):
    numbers, table = tmp_path / "numbers.json", tmp_path / "table.md"
    arguments = ["--scenes", "2", "--per-object", "1", "--noise", "0.25", "--grid", "pixels"]
    monkeypatch.setattr(sys, "argv", ["run", *arguments, "--json", str(numbers), "--markdown", str(table)])
    experiment.main()
    assert table.read_text() == capsys.readouterr().out
    assert json.loads(numbers.read_text())["auc"]["ULTra_S"]["1"]["scenes"] == 2


def test_bad_requests_are_named():
    model = VisionTransformer(ViTConfig(dim=16, depth=1, heads=2)).eval()
    with pytest.raises(ValueError, match="'patches' or 'pixels'"):
        experiment.localise(model, Scenes(1), grid="voxels")
