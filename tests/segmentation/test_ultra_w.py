"""ULTra_W: held against the written-out training; constant regions; interrupted = uninterrupted; files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from captum_ultra import LatentTokenAttribution
from captum_ultra.attr.scores import Score
from captum_ultra.perturbation.patches import Perturbation
from captum_ultra.perturbation.seeds import seeded_generator
from captum_ultra.segmentation.ultra_w import UltraW
from captum_ultra.segmentation.ultra_w_settings import UltraWSettings
from captum_ultra.segmentation.ultra_w_training import train_ultra_w
from tests.attr import models
from tests.reference.ultra_w import Adam, loss_and_gradient

GRID = (4, 4)


def regions_of(images: Tensor) -> Tensor:
    """Three regions an image, by the brightness of its patches: [B, 4, 4]."""
    brightness = F.avg_pool2d(images.mean(1, keepdim=True), 4)[:, 0]
    return (brightness > -0.1).long() + (brightness > 0.1).long()


def stub(images: Tensor, score: Score) -> Tensor:
    return regions_of(images)


def latents(model: torch.nn.Module, images: Tensor, layer: int) -> Tensor:
    seen = []
    handle = model.blocks[layer - 1].register_forward_hook(lambda module, args, output: seen.append(output))
    with torch.no_grad():
        model(images)
    handle.remove()
    return seen[0]


@pytest.mark.parametrize("mode", ["mask", "noise"])
@pytest.mark.parametrize(("layer", "epochs"), [(1, 1), (3, 2)])
def test_as_the_written_out_training(mode: str, layer: int, epochs: int) -> None:
    model, images = models.vit(), models.images(5)
    settings = UltraWSettings(
        samples=4, batch_size=3, epochs=epochs, learning_rate=0.05, perturbation=Perturbation(mode), seed=2,
        forward_batch_size=2,
    )  # fmt: skip
    found = train_ultra_w(model, images, layer, settings, segment=stub)
    theta, adam, losses = torch.ones(17, 16, dtype=torch.float64), Adam(0.05), []
    for epoch in range(epochs):
        for numbers in ([0, 1, 2], [3]):
            batch = images[numbers]
            everywhere = torch.cat([
                Perturbation(mode)(image[None], seeded_generator(2, number, epoch))
                for image, number in zip(batch, numbers, strict=True)
            ])  # fmt: skip
            loss, gradient = loss_and_gradient(
                lambda each: latents(model, each, layer),
                batch,
                regions_of(batch).flatten(1),
                theta,
                GRID,
                1,
                everywhere,
            )
            losses.append(loss)
            theta = adam.step(theta, gradient)
    assert found.losses == pytest.approx(losses, rel=1e-4)
    assert found.losses[0] > 0
    torch.testing.assert_close(found.weights.double(), F.normalize(theta, dim=-1), rtol=0, atol=1e-4)
    assert found.layer == layer and torch.equal(found.weights[0], F.normalize(torch.ones(16), dim=0))  # CLS


def test_the_loss_falls() -> None:
    settings = UltraWSettings(batch_size=4, epochs=30, learning_rate=0.05)
    losses = train_ultra_w(models.vit(), models.images(4), 3, settings, segment=stub).losses
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("regions", ["sum", "current"])
def test_no_gradient_flows_through_the_regions(regions: str) -> None:
    """A prediction that depends on the weights is given them as constants, and trains as if it did not."""
    model, images, seen = models.vit(), models.images(4), []

    def by_score(batch: Tensor, score: Score) -> Tensor:
        assert not torch.is_grad_enabled()
        seen.append(score)
        if isinstance(score, Tensor):
            assert not score.requires_grad and score.grad_fn is None
        return regions_of(batch)

    settings = UltraWSettings(batch_size=2, regions=regions)
    found = train_ultra_w(model, images, 2, settings, segment=by_score)
    assert torch.equal(found.weights, train_ultra_w(model, images, 2, settings, segment=stub).weights)
    if regions == "sum":
        assert seen == ["sum", "sum"]
    else:
        ones = F.normalize(torch.ones(17, 16), dim=-1)
        assert torch.equal(seen[0], ones) and not torch.equal(seen[1], ones)
        torch.testing.assert_close(seen[1].norm(dim=-1), torch.ones(17))


@pytest.mark.parametrize(("regions", "expected"), [("sum", 2), ("current", 6)])
def test_regions_that_cannot_change_are_found_once(regions: str, expected: int) -> None:
    calls = []

    def counted(batch: Tensor, score: Score) -> Tensor:
        calls.append(len(batch))
        return stub(batch, score)

    model, images = models.vit(), models.images(4)
    settings = UltraWSettings(batch_size=2, epochs=3, regions=regions)
    found = train_ultra_w(model, images, 2, settings, segment=counted)
    assert len(calls) == expected and len(found.losses) == 6


def test_pixel_labels_become_those_of_most_of_a_patch() -> None:
    model, images = models.vit(), models.images(2)

    def pixels(batch: Tensor, score: Score) -> Tensor:
        large = regions_of(batch).repeat_interleave(4, 1).repeat_interleave(4, 2)
        large[:, ::4, ::4] = 2  # one pixel of sixteen
        return large

    found, expected = (train_ultra_w(model, images, 2, segment=each).weights for each in (pixels, stub))
    assert torch.equal(found, expected)


class Interrupted(Exception):
    pass


class Breaks:
    """Images that fail once, when image ``at`` is asked for."""

    def __init__(self, images: Tensor, at: int) -> None:
        self.images, self.at, self.armed = images, at, False

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        if index == self.at and self.armed:
            raise Interrupted
        self.armed = True
        return self.images[index]


@pytest.mark.parametrize(("at", "every", "kept"), [(2, 1, 1), (4, 1, 2), (4, 2, 2), (2, 2, 0)])
def test_interrupted_and_resumed_is_uninterrupted(tmp_path: Path, at: int, every: int, kept: int) -> None:
    model, images, path = models.vit(), models.images(6), tmp_path / "new" / "training.safetensors"
    settings = UltraWSettings(batch_size=2, epochs=2, perturbation=Perturbation("noise"), regions="current")
    whole = train_ultra_w(model, images, 3, settings, segment=stub)
    with pytest.raises(Interrupted):
        train_ultra_w(
            model, Breaks(images, at), 3, settings, segment=stub, checkpoint=path, checkpoint_every=every
        )  # fmt: skip
    assert path.exists() == bool(kept)
    calls = []

    def counted(batch: Tensor, score: Score) -> Tensor:
        calls.append(len(batch))
        return stub(batch, score)

    resumed = train_ultra_w(model, images, 3, settings, segment=counted, checkpoint=path)
    assert len(calls) == 6 - kept
    assert torch.equal(resumed.weights, whole.weights) and resumed.losses == whole.losses
    again = train_ultra_w(model, images, 3, settings, segment=counted, checkpoint=path)
    assert len(calls) == 6 - kept and torch.equal(again.weights, whole.weights)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_checkpoint_of_another_training_is_refused(tmp_path: Path) -> None:
    model, images, path = models.vit(), models.images(2), tmp_path / "training.safetensors"
    train_ultra_w(model, images, 3, segment=stub, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match=r"another training \(layer: 3 -> 2, learning_rate: 0\.01 -> 0\.1\)"):
        train_ultra_w(model, images, 2, UltraWSettings(learning_rate=0.1), segment=stub, checkpoint=path)
    with pytest.raises(ValueError, match="weights of another shape"):
        train_ultra_w(models.vit(dim=32), images, 3, segment=stub, checkpoint=path)
    assert path.read_bytes() == before
    path.write_bytes(before[: len(before) // 2])
    with pytest.raises(ValueError, match="is damaged"):
        train_ultra_w(model, images, 3, segment=stub, checkpoint=path)
    UltraW(torch.ones(17, 16), 3).save(path)
    with pytest.raises(ValueError, match="not 'captum_ultra UltraW training'"):
        train_ultra_w(model, images, 3, segment=stub, checkpoint=path)


def test_saved_and_loaded(tmp_path: Path) -> None:
    found = train_ultra_w(models.vit(), models.images(2), 3, segment=stub)
    loaded = UltraW.load(found.save(tmp_path / "new" / "w.safetensors"))
    assert torch.equal(loaded.weights, found.weights)
    assert (loaded.layer, loaded.losses, loaded.settings) == (3, found.losses, found.settings)
    assert loaded.settings["learning_rate"] == 0.01 and loaded.settings["images"] == 2
    with pytest.raises(FileNotFoundError, match="does not exist"):
        UltraW.load(tmp_path / "none")
    (tmp_path / "text").write_text("no weights")
    with pytest.raises(ValueError, match="damaged"):
        UltraW.load(tmp_path / "text")


def test_a_score_like_any_other() -> None:
    model, images = models.vit(), models.images(2)
    score = train_ultra_w(model, images, 2, UltraWSettings(learning_rate=0.1), segment=stub)
    explain = LatentTokenAttribution(model)
    maps = explain.attribute(images, token="patches", layer=2, score=score, output="patches")
    expected = explain.attribute(images, token="patches", layer=2, score=score.weights, output="patches")
    torch.testing.assert_close(maps, expected, rtol=0, atol=1e-6)
    plain = explain.attribute(images, token="patches", layer=2, score="sum", output="patches")
    assert (maps - plain).abs().max() > 1e-3
    with pytest.raises(ValueError, match="trained on 17 tokens with 16 channels at layer 2"):
        LatentTokenAttribution(models.vit(dim=32)).attribute(images, token=1, layer=2, score=score)


def test_it_starts_at_the_direction_of_the_sum() -> None:
    """w = 1 / sqrt(d) is the sum, scaled; scaled back, the maps are those of ULTra_S."""
    model, images = models.vit(), models.images(2)
    start = UltraW(F.normalize(torch.ones(17, 16), dim=-1), 3)
    explain = LatentTokenAttribution(model)
    found = explain.attribute(images, token=4, score=start.weights * 16**0.5)
    torch.testing.assert_close(found, explain.attribute(images, token=4, score="sum"), rtol=0, atol=1e-5)


def test_the_segmenter_of_the_package_is_the_default() -> None:
    from captum_ultra.segmentation import LatentTokenSegmenter

    model, images = models.vit(), models.images(4)
    settings = UltraWSettings(batch_size=2, n_clusters=3)
    found = train_ultra_w(model, images, 2, settings)

    def by_hand(batch: Tensor, score: Score) -> Tensor:
        return LatentTokenSegmenter(model, 2, score, n_clusters=3).segment(batch).labels

    assert torch.equal(found.weights, train_ultra_w(model, images, 2, settings, segment=by_hand).weights)
    current = UltraWSettings(batch_size=2, n_clusters=3, regions="current")
    assert train_ultra_w(model, images, 2, current).losses[0] > 0


def test_the_model_is_left_as_it_was_found() -> None:
    model = models.vit().train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    train_ultra_w(model, models.images(2), 2, segment=stub)
    assert model.training and all(p.requires_grad and p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_callers_without_gradients(guard: type) -> None:
    model, images = models.vit(), models.images(2)
    with guard():
        found = train_ultra_w(model, images, 2, segment=stub)
    assert torch.equal(found.weights, train_ultra_w(model, images, 2, segment=stub).weights)


def test_one_region_everywhere_teaches_nothing() -> None:
    with pytest.warns(UserWarning, match="every image was segmented into one region"):
        found = train_ultra_w(
            models.vit(), models.images(2), 2, segment=lambda images, score: torch.zeros(len(images), 4, 4).long()
        )
    assert found.losses == (0.0,) and torch.equal(found.weights, F.normalize(torch.ones(17, 16), dim=-1))


def test_normalised_latents_and_another_start() -> None:
    model, images, theta = models.vit(), models.images(2), torch.randn(17, 16)
    settings = UltraWSettings(normalize=True, learning_rate=1e-9)
    found = train_ultra_w(model, images, 2, settings, segment=stub, initial=theta)
    torch.testing.assert_close(found.weights, F.normalize(theta, dim=-1), rtol=0, atol=1e-6)

    def unit(batch: Tensor) -> Tensor:
        return F.normalize(latents(model, batch, 2), dim=-1)

    loss, _ = loss_and_gradient(
        unit, images, regions_of(images).flatten(1), theta.double(), GRID, 1, torch.zeros_like(images)
    )
    assert found.losses == pytest.approx((loss,), rel=1e-4)
    assert not theta.requires_grad


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layer": 0}, "no token notices any other"),
        ({"images": []}, "images is empty"),
        ({"images": torch.zeros(2, 16, 16)}, r"image 0 must be a tensor \[C, H, W\]"),
        ({"images": [torch.zeros(3, 16, 16), torch.zeros(3, 8, 8)]}, r"image 1 is \[3, 8, 8\]"),
        ({"initial": torch.ones(16, 16)}, r"initial is \[16, 16\]; the layer has latents \[17, 16\]"),
        ({"checkpoint_every": 0}, "at least 1"),
        ({"segment": lambda images, score: torch.zeros(2, 4, 4)}, r"integers \[B, H, W\] for 2 images"),
        ({"segment": lambda images, score: torch.full((2, 4, 4), -1)}, "labels 0, 1"),
        ({"segment": lambda images, score: torch.zeros(1, 4, 4).long()}, "for 2 images"),
    ],
)
def test_arguments(arguments: dict, message: str) -> None:
    defaults = {"model": models.vit(), "images": models.images(2), "layer": 2, "segment": stub}
    with pytest.raises(ValueError, match=message):
        train_ultra_w(**(defaults | arguments))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 0}, "samples is 0"), ({"epochs": 0}, "epochs is 0"), ({"learning_rate": 0.0}, "must be positive"),
        ({"regions": "energy"}, "'sum', 'current'"),
    ],
)  # fmt: skip
def test_settings(settings: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UltraWSettings(**settings)
