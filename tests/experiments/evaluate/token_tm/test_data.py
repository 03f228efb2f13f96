"""The studies on files: images resized whole, masks with them, published numbers where they belong."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from captum_ultra import AttentionRollout
from captum_ultra.data.cifar import Cifar10
from captum_ultra.data.imagenet_seg import ImageNetSegmentation
from captum_ultra.experiments.evaluate.inputs import ModelInput
from captum_ultra.experiments.evaluate.token_tm.maps import RANDOM, try_makers
from captum_ultra.experiments.evaluate.token_tm.options import TokenTMOptions
from captum_ultra.experiments.evaluate.token_tm.study import TokenTMSetting
from tests.data.class_files import imagenet_seg_sample, write_cifar10, write_cifar100, write_imagenet_seg
from tests.data.files import write_image
from tests.experiments.evaluate.token_tm import explicit
from tests.experiments.evaluate.token_tm.small import SIDE, run, small_classifier
from tests.experiments.evaluate.token_tm.test_studies import GRID, value

DEIT, VIT = "timm:deit_base_patch16_224.fb_in1k", "timm:vit_base_patch16_224.augreg_in21k_ft_in1k"


def test_imagenet_segmentation(tmp_path: Path) -> None:
    pytest.importorskip("h5py")
    root = write_imagenet_seg(tmp_path / "data")
    report = run("tokentm-localization", tmp_path / "out", root, data="imagenet-seg", model=DEIT, images=None)
    assert list(report.results) == ["imagenet-seg-0", "imagenet-seg-1", "imagenet-seg-2"]
    assert "imagenet-seg, 3 of 3 images" in str(report) and "taken to be DeiT-B" in str(report)
    model, maps, masks = small_classifier(), [], []
    prepare = ModelInput.of(model)
    for number, sample in enumerate(ImageNetSegmentation(root)):
        relevance = AttentionRollout(model.model).attribute(prepare(sample.image), output="patches")
        maps.append(explicit.scaled(relevance.flatten(1), GRID, SIDE))
        mask = Image.fromarray(imagenet_seg_sample(number)[1])
        masks.append(np.asarray(mask.resize((SIDE, SIDE), Image.Resampling.NEAREST)) == 1)
    for metric, number in explicit.located(maps, masks).items():
        assert value(report.rows, "rollout", metric) == pytest.approx(number, abs=1e-3)
    published = {(row.name, row.metric): row.published for row in report.rows}
    assert published["TokenTM", "mIoU"] == 64.22 and published["GAE", "pixel accuracy"] == 79.05
    assert published[RANDOM, "mIoU"] is None


@pytest.mark.parametrize("study", ["accuracy", "probability", "ablation"])
def test_cifar10(study: str, tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    more: dict[str, Any] = {"methods": ()} if study == "ablation" else {}
    report = run(f"tokentm-{study}", tmp_path / "out", tmp_path, classes=10, data="cifar10", images=None, **more)
    assert list(report.results) == ["test-0", "test-1", "test-2", "test-3"]
    assert all(row.published is None for row in report.rows)
    if study == "accuracy":
        model, data = small_classifier(classes=10), Cifar10(tmp_path)
        guesses = [int(model.model(ModelInput.of(model)(each.image)).argmax()) for each in data]
        right = 100 * np.mean([guess == each.label for guess, each in zip(guesses, data, strict=True)])
        assert value(report.rows, "unperturbed images", "accuracy") == pytest.approx(right)
    if study == "ablation":  # no masks
        assert {row.metric for row in report.rows} == {"negative AUC", "positive AUC"}
        assert "foreground" not in str(report)


def test_cifar100_in_part(tmp_path: Path) -> None:
    write_cifar100(tmp_path)
    report = run("tokentm-accuracy", tmp_path / "out", tmp_path, classes=100, data="cifar100", images=2, split="train")
    assert len(report.results) == 2 and "cifar100, split train, 2 of 3 images" in str(report)


@pytest.mark.parametrize(
    ("study", "model", "row", "metric", "published"),
    [
        ("accuracy", DEIT, "TokenTM", "predicted class, negative AUC", 58.12),
        ("accuracy", DEIT, "TokenTM", "target class, negative AUC", None),
        ("accuracy", VIT, "TokenTM", "predicted class, negative AUC", None),
        ("probability", VIT, "GAE", "log-odds", -5.437),
        ("probability", DEIT, "GAE", "log-odds", None),
        ("ablation", VIT, "+ L", "positive AUC", 16.28),
        ("ablation", DEIT, "+ L", "positive AUC", None),
    ],
)
def test_imagenet(study: str, model: str, row: str, metric: str, published: float | None, tmp_path: Path) -> None:
    for name in ("n01440764/a.JPEG", "n01443537/a.JPEG"):
        write_image(tmp_path / "val" / name, 30, 40)
    more: dict[str, Any] = {"methods": ()} if study == "ablation" else {}
    options = {"data": "imagenet", "images": None, "model": model, **more}
    report = run(f"tokentm-{study}", tmp_path / "out", tmp_path, classes=2, **options)
    assert [each.published for each in report.rows if (each.name, each.metric) == (row, metric)] == [published]
    assert ("not known here" in str(report)) == (study == "accuracy" and model == DEIT)


def test_published_areas_of_cifar_stand_beside_models_of_that_size() -> None:
    def setting(shape: tuple[int, int, int], **more: Any) -> TokenTMSetting:
        options = TokenTMOptions("tokentm-accuracy", "cifar10", model="hf:mine", **more)
        prepare = ModelInput(224, (0.5,) * 3, (0.5,) * 3)
        return TokenTMSetting(options, torch.nn.Identity(), None, prepare, ("gae",), ("predicted",), shape)

    assert setting((12, 197, 768)).compares_areas
    assert not setting((12, 197, 384)).compares_areas
    assert not setting((12, 197, 768), random_weights=True).compares_areas


def test_maps_that_are_not_finite_are_refused() -> None:
    from captum_ultra.experiments.evaluate.token_tm.maps import method_makers

    class Method:
        def __init__(self, model: Any) -> None:
            pass

        def attribute(self, x: torch.Tensor, **_: Any) -> torch.Tensor:
            return torch.full((1, 1, 4, 4), float("nan"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("captum_ultra.experiments.evaluate.token_tm.maps.method_class", lambda name: Method)
        makers = method_makers(torch.nn.Identity(), ["gae"])
    with pytest.raises(ValueError, match="a map is not finite"):
        try_makers(makers, torch.zeros(1, 3, 4, 4), 0)
