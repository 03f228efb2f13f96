"""The study of faithful explanations: controls, similarity, randomised weights, what is kept, and a small run."""

import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from captum_ultra.data import ObjectScenes
from captum_ultra.experiments.cell_store import CellStore
from captum_ultra.experiments.class_faithfulness import __main__ as command
from captum_ultra.experiments.class_faithfulness import sanity as sanity_module
from captum_ultra.experiments.class_faithfulness import study as study_module
from captum_ultra.experiments.class_faithfulness.maps import CONTROLS, edges, map_makers, on_patches
from captum_ultra.experiments.class_faithfulness.randomised import SCHEMES, cascade, stages
from captum_ultra.experiments.class_faithfulness.sanity import MEASURES, Sanity, verdict
from captum_ultra.experiments.class_faithfulness.scores import REMOVAL, WHERE
from captum_ultra.experiments.class_faithfulness.similarity import rank_correlation, structural_similarity
from captum_ultra.experiments.class_faithfulness.study import Faithfulness
from captum_ultra.experiments.class_faithfulness.tables import (
    agreement_table,
    difference_table,
    measure,
    score_table,
)
from captum_ultra.intervals import Interval
from captum_ultra.metrics import LocalizationScore
from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig
from captum_ultra.perturbation.class_test import ClassPerturbationTest

SIZE = 32


@pytest.fixture
def model():
    torch.manual_seed(0)
    found = ViTClassifier(ViTClassifierConfig(image_size=SIZE, dim=16, depth=2, heads=2)).eval()
    for values in found.parameters():
        torch.nn.init.normal_(values, std=0.5)  # so large that pixels matter
    return found


@pytest.fixture
def scenes():
    return ObjectScenes(3, 0, SIZE)


@pytest.fixture
def store(tmp_path):
    return CellStore(tmp_path / "cells.jsonl", {})


def test_edges_are_steep_where_grey_values_change():
    image = torch.rand(3, 9, 8)
    grey = np.pad((image.numpy() * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(0), 1, mode="edge")
    across = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    expected = [
        [np.hypot((window * across).sum(), (window * across.T).sum()) for window in row]
        for row in np.lib.stride_tricks.sliding_window_view(grey, (3, 3))
    ]
    np.testing.assert_allclose(edges(image), expected, atol=1e-5)


def test_controls_know_nothing_of_the_model(model, scenes):
    scene = scenes[0]
    x = model.preprocess(scene.image)[None]
    other = next(copied for _, copied in cascade(model, "shuffled", 0))
    for name in CONTROLS:
        first, again = (
            map_makers(each, [name])[name](scene, x, target, 0) for each, target in ((model, 0), (other, 1))
        )
        assert first.shape == (SIZE, SIZE) and torch.equal(first, again)
    random = map_makers(model, ["random"], seed=1)["random"]
    assert not torch.equal(random(scene, x, 0, 0), random(scene, x, 0, 1))
    assert torch.equal(map_makers(model, ["mask"])["mask"](scene, x, 0, 0) > 0, scene.mask)
    centre = map_makers(model, ["centre"])["centre"](scene, x, 0, 0)
    assert torch.allclose(centre, centre.flip(0)) and torch.allclose(centre, centre.T)
    assert centre.argmax() in (15 * SIZE + 15, 15 * SIZE + 16, 16 * SIZE + 15, 16 * SIZE + 16)


def test_methods_explain_the_class_they_are_asked_for(model, scenes):
    x = model.preprocess(scenes[0].image)[None]
    make = map_makers(model, ["gae"])["gae"]
    assert not torch.allclose(make(scenes[0], x, 0, 0), make(scenes[0], x, 1, 0))
    signed, absolute = (map_makers(model, [name])[name](scenes[0], x, 0, 0) for name in ("attcat", "attcat_absolute"))
    assert (signed < 0).any() and torch.equal(signed.abs(), absolute)
    with pytest.raises(ValueError, match="'magic' is unknown"):
        map_makers(model, ["magic"])


@settings(deadline=None)
@given(arrays(np.float64, (2, 12), elements=st.sampled_from([-1.0, 0.0, 0.25, 0.5, 2.0])))
def test_rank_correlation_is_scipys(values):
    from scipy.stats import spearmanr

    one, other = torch.from_numpy(values)
    constant = any(len(each.unique()) == 1 for each in (one, other))
    expected = 0.0 if constant else spearmanr(*values).statistic
    assert rank_correlation(one, other) == pytest.approx(expected, abs=1e-12)


def test_structural_similarity_is_the_mean_over_windows_written_out():
    one, other = torch.rand(2, 9, 10).double()
    a, b = (((each - each.min()) / (each.max() - each.min())).numpy() for each in (one, other))
    found = []
    for row in range(3):
        for column in range(4):
            p, q = (each[row : row + 7, column : column + 7].ravel() for each in (a, b))
            (var_p, both), (_, var_q) = np.cov(p, q)
            found.append(
                (2 * p.mean() * q.mean() + 1e-4) * (2 * both + 9e-4)
                / ((p.mean() ** 2 + q.mean() ** 2 + 1e-4) * (var_p + var_q + 9e-4))
            )  # fmt: skip
    assert structural_similarity(one, other) == pytest.approx(np.mean(found))
    assert structural_similarity(one, one) == pytest.approx(1)
    with pytest.raises(ValueError, match="one shape"):
        structural_similarity(one[:6], other[:6])
    with pytest.raises(ValueError, match="one shape"):
        rank_correlation(one, other[:3])


def test_every_parameter_is_randomised_once_from_the_head_down(model):
    found = stages(model)
    assert list(found) == ["head", "block 2", "block 1", "embedding"]
    assert sorted(name for names in found.values() for name in names) == sorted(dict(model.named_parameters()))
    assert "norm.weight" in found["block 2"] and "pos_embed" in found["embedding"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_randomising_goes_stage_by_stage_and_leaves_the_model_as_it_was(model, scheme):
    before = {name: values.clone() for name, values in model.state_dict().items()}
    state = torch.get_rng_state()
    done: set[str] = set()
    for stage, copied in cascade(model, scheme, 0, 1):
        done |= set(stages(model)[stage])
        for name, values in copied.named_parameters():
            assert torch.equal(values, before[name]) == (name not in done), (stage, name)
        assert not copied.training and all(values.requires_grad for values in copied.parameters())
    assert done == set(dict(model.named_parameters()))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())


def test_shuffled_weights_keep_their_values_and_initial_ones_their_scheme(model):
    *_, (_, shuffled) = cascade(model, "shuffled", 3)
    *_, (_, again) = cascade(model, "shuffled", 3)
    *_, (_, other) = cascade(model, "shuffled", 4)
    for name, values in shuffled.named_parameters():
        own = model.get_parameter(name)
        assert torch.equal(values.flatten().sort().values, own.flatten().sort().values)
        assert torch.equal(values, again.get_parameter(name)) and not torch.equal(values, other.get_parameter(name))
    *_, (_, initial) = cascade(model, "initial", 3)
    assert torch.equal(initial.norm.weight, torch.ones(16))
    assert torch.equal(initial.pos_embed, ViTClassifier(model.config).pos_embed)
    with pytest.raises(ValueError, match="'none' is unknown"):
        next(cascade(model, "none", 0))


def test_the_objects_mask_scores_a_hundred_and_a_random_map_does_not(model, scenes, store):
    study = Faithfulness(model, scenes, store)
    study.run(["mask", "random", "gae"])
    numbers = measure(study, ["mask", "random", "gae"])
    assert [numbers["mask"][title].mean for title in ("pixel accuracy", "mIoU", "mAP")] == pytest.approx([100] * 3)
    assert numbers["random"]["mIoU"].mean < 60
    metric = LocalizationScore()
    for index in range(3):
        x = model.preprocess(scenes[index].image)[None]
        metric.update(map_makers(model, ["gae"])["gae"](scenes[index], x, int(model(x).argmax()), index)[None],
                      scenes[index].mask[None])  # fmt: skip
    for title, name in (("pixel accuracy", "pixel_accuracy"), ("mIoU", "miou"), ("mAP", "map")):
        expected = metric.intervals()[name]
        found = numbers["gae"][title]
        assert (found.mean, found.low, found.high) == pytest.approx(
            (100 * expected.mean, 100 * expected.low, 100 * expected.high)
        )


def test_edges_are_as_like_to_themselves_as_can_be(model, scenes, store):
    study = Faithfulness(model, scenes, store)
    study.run(["edges"])
    assert [each["edges"] for each in study.found("edges")] == pytest.approx([1.0] * 3)


def test_maps_that_say_nothing_are_counted(model, scenes, store, monkeypatch):
    monkeypatch.setitem(CONTROLS, "random", lambda patch, seed, scene, x, target, number: torch.ones(SIZE, SIZE) / 3)
    study = Faithfulness(model, scenes, store)
    study.run(["random", "mask"])
    assert (study.constant("random"), study.constant("mask")) == (3, 0)


def test_differences_are_taken_within_scenes(model, scenes, store):
    study = Faithfulness(model, scenes, store)
    study.run(["gae", "edges"])
    lines = difference_table(study, ["gae", "edges"], "edges").splitlines()
    precision = [
        study.found("gae")[k]["average_precision"] - study.found("edges")[k]["average_precision"] for k in range(3)
    ]
    low, high = 100 * min(precision), 100 * max(precision)
    assert lines[2].startswith(f"| GAE | {100 * sum(precision) / 3:+.1f} [{low:+.1f}, {high:+.1f}] |")
    assert lines[3].endswith("| +0.0 [+0.0, +0.0] | +0.000 [+0.000, +0.000] |")


def test_pixels_are_removed_in_the_order_of_the_map(model, scenes, store):
    study = Faithfulness(model, scenes, store)
    study.run(["gae"])
    result = study.removal("gae")
    black = model.preprocess(torch.zeros(3, 1, 1))
    for index in range(3):
        scene = scenes[index]
        x = model.preprocess(scene.image)[None]
        target = int(model(x).argmax())
        values = map_makers(model, ["gae"])["gae"](scene, x, target, index).flatten().tolist()
        for column, sign in ((0, -1), (1, 1)):
            order = sorted(range(SIZE**2), key=lambda pixel, sign=sign: sign * values[pixel])
            for step in (0, 4, 8):
                changed = x.clone()
                for pixel in order[: round((step + 1) / 10 * SIZE**2)]:
                    changed[0, :, pixel // SIZE, pixel % SIZE] = black[:, 0, 0]
                logits = model(changed)[0].detach().double()
                expected = float(logits.log_softmax(0)[target])
                assert float(result.log_probability[index, column, step]) == pytest.approx(expected, abs=1e-4)
                assert int(result.predicted[index, column, step]) == int(logits.argmax())
        assert int(result.targets[index]) == target and int(result.labels[index]) == scene.label


def test_insertion_and_deletion_are_those_of_their_own_test(model, scenes, store, monkeypatch):
    def unequal(patch, seed, scene, x, target, number):
        return torch.rand(SIZE, SIZE, generator=torch.Generator().manual_seed(number))

    monkeypatch.setitem(CONTROLS, "random", unequal)
    study = Faithfulness(model, scenes, store)
    study.run(["random"])
    found = study.ends("random")
    config = model.config
    test = ClassPerturbationTest(model, found.orders, found.steps, mean=config.mean, std=config.std)
    for index in range(3):
        x = model.preprocess(scenes[index].image)[None]
        values = map_makers(model, ["random"])["random"](scenes[index], x, 0, index)
        expected = test.run(x, values[None])
        torch.testing.assert_close(found.log_probability[index], expected.log_probability[0], atol=1e-5, rtol=0)
        assert torch.equal(found.predicted[index], expected.predicted[0])


def test_the_true_class_is_explained_where_the_model_is_wrong(model, scenes, store):
    study = Faithfulness(model, scenes, store)
    study.run(["gae"])
    wrong = study.removal("gae").clean_predicted != study.removal("gae").labels
    assert wrong.any()
    true, predicted = study.removal("gae", "true"), study.removal("gae")
    assert torch.equal(true.targets, true.labels) and torch.equal(predicted.targets, predicted.clean_predicted)
    assert not torch.equal(true.log_probability[wrong], predicted.log_probability[wrong])
    assert torch.equal(true.log_probability[~wrong], predicted.log_probability[~wrong])


def test_a_run_goes_on_where_it_stopped(model, store, monkeypatch):
    Faithfulness(model, ObjectScenes(1, 0, SIZE), store).run(["mask"])
    made = []
    makers = study_module.map_makers

    def counted(model, names, seed=0):
        found = makers(model, names, seed)
        if names == ["edges"]:  # the control that likeness to edges is measured by
            return found
        return {name: lambda *args, name=name: made.append((args[-1], name)) or found[name](*args) for name in names}

    monkeypatch.setattr(study_module, "map_makers", counted)
    Faithfulness(model, ObjectScenes(2, 0, SIZE), CellStore(store.path, {})).run(["mask", "centre"])
    assert set(made) == {(0, "centre"), (1, "mask"), (1, "centre")}


def test_a_map_that_ignores_the_model_has_correlation_one_and_fails(model, scenes, store):
    before = {name: values.clone() for name, values in model.state_dict().items()}
    sanity = Sanity(model, scenes, store, draws=1)
    sanity.run(["edges", "gae"])
    for scheme in SCHEMES:
        every = [sanity.randomised("edges", scheme, measure) for measure in ("absolute", "signed")]
        assert all(each.shape == (3, 1, 4) and bool((each == 1).all()) for each in every)
        said = verdict(every, [sanity.different("edges", measure) for measure in ("absolute", "signed")])
        assert said.text == "fails" and said.blind
        assert float(sanity.randomised("gae", scheme, "absolute").mean()) < 0.9
    assert float(sanity.different("edges", "signed").max()) < 0.99
    assert all(torch.equal(values, before[name]) for name, values in model.state_dict().items())
    assert all(values.grad is None and values.requires_grad for values in model.parameters())


def test_similarities_are_those_of_maps_on_the_patch_grid(model, scenes, store):
    sanity = Sanity(model, scenes, store, schemes=("shuffled",), draws=2)
    sanity.run(["attcat"])
    x = model.preprocess(scenes[1].image)[None]
    target = int(model(x).argmax())
    copies = [copied for _, copied in cascade(model, "shuffled", 0, 1)]
    whole, again = (
        on_patches(map_makers(each, ["attcat"])["attcat"](scenes[1], x, target, 1), 4) for each in (model, copies[2])
    )
    for name, measured in MEASURES.items():
        assert float(sanity.randomised("attcat", "shuffled", name)[1, 1, 2]) == pytest.approx(measured(whole, again))


def test_a_finished_check_asks_no_model_again(model, scenes, store, monkeypatch):
    Sanity(model, scenes, store, draws=1).run(["centre"])
    again = Sanity(model, scenes, CellStore(store.path, {}), draws=1)
    monkeypatch.setattr(sanity_module, "rank_correlation", None)
    monkeypatch.setattr(Sanity, "_seen", None)
    again.run(["centre"])
    assert again.randomised("centre", "initial", "ssim").shape == (3, 1, 4)


@pytest.mark.parametrize(
    ("last", "different", "text"),
    [(0.5, 0.0, "fails"), (0.49, 0.0, "in part"), (0.11, 0.0, "in part"), (0.09, 0.0, "passes"), (0.4, 0.4, "passes")],
)
def test_the_rule(last, different, text):
    values = torch.tensor([[[0.3, last]]], dtype=torch.float64)
    shared = torch.tensor([different], dtype=torch.float64)
    zero = torch.zeros_like(values)
    assert verdict([values, zero], [shared, shared]).text == text
    assert verdict([zero, values], [shared, shared]).text == text
    assert not verdict([values, values], [shared, shared]).blind
    assert verdict([torch.ones(1, 1, 2), values], [shared, shared]).blind is False


def test_tables_mark_the_best_method_and_leave_controls_out():
    def row(accuracy, miou):
        return {
            "pixel accuracy": Interval(accuracy, 0, 100), "mIoU": Interval(miou, 0, 100),
            "positive": Interval(-accuracy, 0, 0),
        }  # fmt: skip

    numbers = {"gae": row(80, 40), "rollout": row(70, 60), "mask": row(100, 100)}
    lines = score_table(numbers, WHERE[:2]).splitlines()
    assert lines[0] == "| map | pixel accuracy ↑ | mIoU ↑ |"
    assert lines[2] == "| GAE | **80.0 [0.0, 100.0]** | 40.0 [0.0, 100.0] |"
    assert "**60.0" in lines[3] and "**" not in lines[4]
    lines = agreement_table(numbers, (*WHERE[:2], REMOVAL[1])).splitlines()
    assert lines[2] == "| pixel accuracy | +1.00 | -1.00 | +1.00 |"


def test_the_command_prints_tables_and_writes_numbers_and_figures(tmp_path, monkeypatch, capsys, model):
    monkeypatch.setattr(command, "scenes_classifier", lambda: model)
    arguments = ["--scenes", "3", "--sanity-scenes", "2", "--draws", "1", "--methods", "gae,rollout,attcat"]
    monkeypatch.setattr(sys, "argv", ["run", *arguments, "-o", str(tmp_path)])
    command.main()
    printed = capsys.readouterr().out
    assert (tmp_path / "tables.md").read_text() == printed
    assert "| rollout |" in printed and "| \\|ATTCAT\\| |" in printed and "fails, blind to the head" in printed
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["scenes"]["mask"]["mIoU"][0] == pytest.approx(100)
    assert numbers["randomised"]["shuffled"]["edges"]["verdict"] == "fails"
    assert numbers["randomised"]["shuffled"]["rollout"]["blind to the head"]
    assert not numbers["randomised"]["shuffled"]["gae"]["blind to the head"]
    for name in ("removal", "randomised", "maps"):
        assert (tmp_path / f"{name}.png").stat().st_size > 5000
    monkeypatch.setattr(Faithfulness, "_perturbed", None)
    command.main()
    assert capsys.readouterr().out == printed
    with torch.no_grad():
        model.head.bias += 1
    with pytest.raises(ValueError, match="holds results of"):
        command.main()
