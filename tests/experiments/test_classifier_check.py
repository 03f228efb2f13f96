"""The check of the classifier: on models that go by the object, by its surroundings, or by nothing."""

import dataclasses
import json

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from captum_ultra.data import WEAVES, ObjectScenes
from captum_ultra.experiments.classifier_check import CHANGES, check_classifier, main, markdown
from captum_ultra.experiments.classifier_sheet import ROWS, draw_sheet
from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig, load_vit_classifier


class Oracle(nn.Module):
    """Knows the scenes by heart: the class of the nearest of all their versions, by squared distance."""

    num_classes, classes = len(WEAVES), WEAVES

    def __init__(self, scenes, versions):
        super().__init__()
        from captum_ultra.data import render_object_scene

        known = [render_object_scene(scenes.seed, i, weave=weave) for i in range(len(scenes)) for weave in versions]
        self.images = torch.stack([scene.image for scene in known]).flatten(1)
        self.labels = torch.tensor([scene.label for scene in known])

    def preprocess(self, image):
        return image

    def forward(self, x):
        nearest = torch.cdist(x.flatten(1), self.images).argmin(1)
        return nn.functional.one_hot(self.labels[nearest], self.num_classes).float()


def test_an_oracle_is_right_and_follows_every_exchange():
    scenes = ObjectScenes(12, seed=2)
    check = check_classifier(Oracle(scenes, WEAVES), scenes)
    assert check.accuracy["as they are"].mean == 1 and check.follows.mean == 1
    assert sum(check.confusion[k][k] for k in range(6)) == sum(map(sum, check.confusion)) == 12
    assert check.accuracy["object gone, what lies behind it shown"].mean < 0.8


def test_one_answer_for_all_is_at_chance_and_follows_nothing():
    scenes = ObjectScenes(12, seed=2)
    check = check_classifier(Oracle(scenes, ["red-blue"]), scenes)
    those = sum(scenes[index].name == "red-blue" for index in range(12)) / 12
    assert all(interval.mean == pytest.approx(those) for interval in check.accuracy.values())
    assert sum(row[WEAVES.index("red-blue")] for row in check.confusion) == 12


def test_changes_touch_what_they_say():
    scenes = ObjectScenes(5, seed=4)
    for index in range(5):
        scene = scenes[index]
        changed = {name: change(scene, scenes, index) for name, change in CHANGES.items()}
        rest = ~scene.mask
        for name in ("object gone, what lies behind it shown", "object in the mean colour of the rest"):
            assert torch.equal(changed[name][:, rest], scene.image[:, rest])
            assert not torch.equal(changed[name], scene.image)
        assert (changed["object in the mean colour of the rest"][:, scene.mask].std(1) < 1e-5).all()
        for name, colour in (("all but the object in black", 0.0), ("all but the object in grey", 0.5)):
            assert torch.equal(changed[name][:, scene.mask], scene.image[:, scene.mask])
            assert (changed[name][:, rest] == colour).all()
        inside = (changed["object's bounding box in grey"] == 0.5).all(0)
        assert inside[scene.mask].all()
        rows, columns = inside.any(1), inside.any(0)
        assert torch.equal(inside, rows[:, None] & columns[None])
        outside = changed["all but the object's bounding box in grey"]
        assert torch.equal(outside[:, inside], scene.image[:, inside]) and (outside[:, ~inside] == 0.5).all()


def test_tables_and_the_command(capsys, tmp_path, monkeypatch):
    config = ViTClassifierConfig(dim=16, depth=1, heads=2)
    weights, numbers = tmp_path / "small.safetensors", tmp_path / "check.json"
    save_file(ViTClassifier(config).state_dict(), weights, {"config": json.dumps(dataclasses.asdict(config))})
    arguments = ["--scenes", "3", "--weights", str(weights), "--json", str(numbers)]
    monkeypatch.setattr("sys.argv", ["check", *arguments])
    main()
    table = capsys.readouterr().out
    assert table.strip() == markdown(check_classifier(load_vit_classifier(weights), ObjectScenes(3)))
    assert all(f"| {name} | " in table for name in (*CHANGES, *WEAVES))
    assert json.loads(numbers.read_text())["classes"] == list(WEAVES)


def test_the_sheet_shows_every_row_of_every_scene():
    model = ViTClassifier(ViTClassifierConfig(dim=16, depth=1, heads=2)).eval()
    figure = draw_sheet(model, ObjectScenes(2))
    assert len(figure.axes) == 2 * len(ROWS)
    assert all(len(axis.images) == 1 for axis in figure.axes)
