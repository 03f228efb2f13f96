"""Perturbation tests of class explanations against loops over pixels, steps and images."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from captum_ultra import UnsupportedModelError
from captum_ultra.perturbation import INSERTION_STEPS, REMOVAL_STEPS, ClassPerturbationResult, ClassPerturbationTest
from captum_ultra.perturbation.pixel_orders import pixel_ranks, steps_in_pixels
from tests.reference import class_faithfulness as reference

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
BLACK = [-mean / std for mean, std in zip(MEAN, STD, strict=True)]


class Small(nn.Module):
    """A classifier with dropout and batch statistics, which must be off while it is tested."""

    def __init__(self, size: tuple[int, int] = (6, 5), classes: int = 4) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.linear = nn.Linear(3 * size[0] * size[1], classes)
        self.drop = nn.Dropout(0.5)
        self.sizes: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(len(x))
        return self.drop(self.linear(self.norm(x).flatten(1).tanh()))


def case(size: tuple[int, int] = (6, 5), count: int = 3, levels: int = 1000) -> tuple[Small, Tensor, Tensor, Tensor]:
    maps = torch.randint(0, levels, (count, 1, *size)).double() / levels
    return Small(size).double().eval(), torch.randn(count, 3, *size).double(), maps, torch.randint(0, 4, (count,))


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    size=st.tuples(st.integers(1, 6), st.integers(1, 6)),
    count=st.integers(1, 3),
    levels=st.sampled_from((1, 3, 1000)),
    steps=st.lists(st.integers(1, 99), min_size=1, max_size=4, unique=True),
    together=st.integers(1, 30),
)
def test_removal_against_loops(
    seed: int, size: tuple[int, int], count: int, levels: int, steps: list[int], together: int
) -> None:
    torch.manual_seed(seed)
    model, inputs, maps, target = case(size, count, levels)
    shares = tuple(each / 100 for each in sorted(steps))
    test = ClassPerturbationTest(
        model, ("positive", "negative"), shares, mean=MEAN, std=STD, internal_batch_size=together
    )
    result = test.run(inputs, maps, target)
    assert max(model.sizes) <= together
    for image in range(count):
        for column, ascending in enumerate((False, True)):
            predicted, log_probability = reference.walk(
                model, inputs[image], maps[image, 0], shares, int(target[image]), BLACK, ascending=ascending
            )
            assert result.predicted[image, column].tolist() == predicted
            assert result.log_probability[image, column].tolist() == pytest.approx(log_probability)


@pytest.mark.parametrize("levels", [2, 1000])
def test_insertion_and_deletion_against_loops(levels: int) -> None:
    model, inputs, maps, target = case(levels=levels)
    result = ClassPerturbationTest(model, ("deletion", "insertion"), mean=MEAN, std=STD).run(inputs, maps, target)
    assert result.steps == INSERTION_STEPS and INSERTION_STEPS[0] == 0 and INSERTION_STEPS[-1] == 1
    for image in range(3):
        for column, insert in enumerate((False, True)):
            _, log_probability = reference.walk(
                model, inputs[image], maps[image, 0], INSERTION_STEPS, int(target[image]), BLACK, insert=insert
            )
            assert result.log_probability[image, column].tolist() == pytest.approx(log_probability)
            found = result.per_image("probability_auc", result.orders[column])[image].item()
            expected = reference.trapezoid([math.exp(each) for each in log_probability], INSERTION_STEPS)
            assert found == pytest.approx(expected)
    torch.testing.assert_close(result.log_probability[:, 0, 0], result.clean_log_probability)
    torch.testing.assert_close(result.log_probability[:, 1, -1], result.clean_log_probability)
    torch.testing.assert_close(result.log_probability[:, 0, -1], result.log_probability[:, 1, 0])


def test_a_model_of_a_library() -> None:
    import timm

    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=5).eval()
    inputs, maps = torch.randn(2, 3, 32, 32), torch.rand(2, 1, 32, 32)
    result = ClassPerturbationTest(model, "positive", (0.3, 0.8), mean=MEAN, std=STD).run(inputs, maps, 1)
    for image in range(2):
        _, log_probability = reference.walk(model, inputs[image], maps[image, 0], (0.3, 0.8), 1, BLACK)
        assert result.log_probability[image, 0].tolist() == pytest.approx(log_probability, rel=1e-4)


def test_outputs_of_transformers_are_read() -> None:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(
        image_size=32, patch_size=16, hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, num_labels=3,
    )  # fmt: skip
    model = ViTForImageClassification(config).eval()
    inputs, maps = torch.randn(2, 3, 32, 32), torch.rand(2, 1, 32, 32)
    found = ClassPerturbationTest(model, mean=MEAN, std=STD).run(inputs, maps, 2)
    same = ClassPerturbationTest(model, mean=MEAN, std=STD, forward=lambda x: model(x).logits).run(inputs, maps, 2)
    torch.testing.assert_close(found.log_probability, same.log_probability)


def test_an_image_does_not_depend_on_the_others() -> None:
    model, inputs, maps, target = case(count=5)
    test = ClassPerturbationTest(model, mean=MEAN, std=STD, random_grid=(3, 2))
    whole = test.run(inputs, maps, target, labels=target)
    parts = [
        test.run(inputs[part], maps[part], target[part], labels=target[part], first=part.start)
        for part in (slice(0, 2), slice(2, 3), slice(3, 5))
    ]
    joined = ClassPerturbationResult.concatenate(parts)
    torch.testing.assert_close(joined.log_probability, whole.log_probability)
    assert torch.equal(joined.predicted, whole.predicted)
    other = test.run(inputs[2:3], maps[2:3], target[2:3], first=0)
    assert torch.equal(other.log_probability[0, :2], parts[1].log_probability[0, :2])
    assert not torch.equal(other.log_probability[0, 2], parts[1].log_probability[0, 2])


def test_random_orders_follow_the_seed_and_nothing_in_the_map() -> None:
    model, inputs, maps, target = case()
    first, again, other = (
        ClassPerturbationTest(model, "random", mean=MEAN, std=STD, seed=seed).run(inputs, each, target).log_probability
        for seed, each in ((0, maps), (0, 1 - maps), (1, maps))
    )
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_random_maps_are_as_smooth_as_their_grid() -> None:
    zeros = torch.zeros(40, 32, 32)
    for order in ("random", "random_deletion", "random_insertion"):
        ranks = {grid: pixel_ranks(zeros, order, grid=grid).view(40, 32, 32).double() for grid in ((4, 4), None)}
        steps = {grid: each.diff(dim=2).abs().mean() for grid, each in ranks.items()}
        assert steps[4, 4] < steps[None] / 4
        for each in ranks.values():
            assert torch.equal(each.flatten(1).sort(1).values, torch.arange(1024.0).double().expand(40, -1))
            # No place is preferred: ranks average to the middle (standard error 1024 / sqrt(12 * 40) = 47).
            assert (each.mean(0)[1:-1, 1:-1] - 511.5).abs().max() < 6 * 47


def test_counts_of_pixels() -> None:
    for pixels in (1, 7, 100, 50176):
        assert steps_in_pixels((0.0, *REMOVAL_STEPS, 1.0), pixels) == [
            math.floor(tenth * pixels / 10 + 0.5) for tenth in range(11)
        ]


@pytest.mark.parametrize(
    "baseline", [0.25, [0.1, 0.2, 0.3], torch.tensor([0.1, 0.2, 0.3])[:, None, None], torch.rand(3, 6, 5)]
)
def test_baselines(baseline: float | list[float] | Tensor) -> None:
    model, inputs, maps, target = case()
    result = ClassPerturbationTest(model, "deletion", (0.0, 1.0), baseline=baseline).run(inputs, maps, target)
    black = torch.as_tensor(baseline).double()
    image = black.view(-1, 1, 1).expand(3, 6, 5) if black.dim() == 1 else black.expand(3, 6, 5)
    expected = model(image[None]).log_softmax(-1)[0, target]
    torch.testing.assert_close(result.log_probability[:, 0, 1], expected.detach())


def test_black_is_black_before_normalisation() -> None:
    seen: list[Tensor] = []

    def keep(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.zeros(len(x), 2)

    raw = torch.rand(1, 3, 4, 4).clamp_min(0.01)
    mean, std = torch.tensor(MEAN).view(-1, 1, 1), torch.tensor(STD).view(-1, 1, 1)
    ClassPerturbationTest(Small(), "positive", (0.5,), mean=MEAN, std=STD, forward=keep).run(
        (raw - mean) / std, torch.rand(1, 4, 4)
    )
    changed = seen[-1] * std + mean
    black = changed.abs().amax(1) < 1e-6
    assert int(black.sum()) == 8
    torch.testing.assert_close(changed.movedim(1, -1)[~black], raw.movedim(1, -1)[~black])


def test_the_predicted_class_is_the_default_and_labels_one_for_all() -> None:
    model, inputs, maps, _ = case()
    result = ClassPerturbationTest(model, mean=MEAN, std=STD).run(inputs, maps, labels=2)
    assert torch.equal(result.targets, model(inputs).argmax(-1)) and torch.equal(result.targets, result.clean_predicted)
    assert result.labels.tolist() == [2, 2, 2]
    torch.testing.assert_close(result.clean_log_probability, model(inputs).log_softmax(-1).amax(-1).detach())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision(dtype: torch.dtype) -> None:
    model, inputs, maps, target = case()
    exact = ClassPerturbationTest(model, "positive", mean=MEAN, std=STD).run(inputs, maps, target)
    model.to(dtype)
    found = ClassPerturbationTest(model, "positive", mean=MEAN, std=STD).run(inputs.to(dtype), maps, target)
    assert found.log_probability.dtype == torch.float64
    torch.testing.assert_close(found.log_probability, exact.log_probability, rtol=0.1, atol=0.05)


@pytest.mark.parametrize("fails", [False, True])
def test_everything_is_left_as_found(fails: bool) -> None:
    model, inputs, maps, target = case()
    model.train()
    model.linear.bias.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    inputs.requires_grad_()
    kept = inputs.detach().clone()
    state = torch.random.get_rng_state()

    def fail(x: Tensor) -> Tensor:
        assert not model.training and not torch.is_grad_enabled()
        if len(model.sizes) == 2:
            raise RuntimeError("stopped")
        return model(x)

    test = ClassPerturbationTest(
        model, mean=MEAN, std=STD, forward=fail if fails else None, internal_batch_size=4
    )  # fmt: skip
    if fails:
        with pytest.raises(RuntimeError, match="stopped"):
            test.run(inputs, maps, target)
    else:
        test.run(inputs, maps, target)
    assert model.training and model.drop.training and torch.is_grad_enabled()
    assert [each.requires_grad for each in model.parameters()] == [True, True, True, False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not model._forward_hooks and torch.equal(inputs.detach(), kept) and inputs.grad is None
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a_map_of_the_evidence_wins_over_chance() -> None:
    """The claim of the test itself, on a model whose evidence is known: the pixels of a square."""

    class Square(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            evidence = x[:, :, 8:16, 8:16].mean((1, 2, 3))
            return torch.stack([10 * evidence, 5 * torch.ones_like(evidence)], dim=1)

    inputs, truth = torch.ones(8, 3, 24, 24), torch.zeros(8, 24, 24)
    truth[:, 8:16, 8:16] = 1
    result = ClassPerturbationTest(Square(), baseline=0.0, random_grid=(6, 6)).run(inputs, truth, 0, 0)
    areas = {order: result.score("accuracy_auc", order) for order in result.orders}
    assert areas["positive"].mean < areas["random"].low and areas["random"].high < areas["negative"].mean
    assert areas["negative"].mean == pytest.approx(80) and areas["positive"].mean == pytest.approx(0)
    both = ClassPerturbationTest(Square(), ("deletion", "insertion", "random_insertion"), baseline=0.0)
    found = {order: each["probability_auc"] for order, each in both.run(inputs, truth, 0).summary().items()}
    assert found["insertion"].mean > found["random_insertion"].high and found["insertion"].mean > 0.9
    assert found["deletion"].mean < 0.1


def test_a_progress_bar_when_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    model, inputs, maps, target = case()
    test = ClassPerturbationTest(model, "positive", mean=MEAN, std=STD)
    test.run(inputs, maps, target)
    assert not capsys.readouterr().err
    test.run(inputs, maps, target, show_progress=True)
    assert "27/27" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"steps": (0.0, 0.5)}, ValueError, "both excluded"),
        ({"steps": (0.5, 1.0)}, ValueError, "both excluded"),
        ({"steps": ()}, ValueError, "both excluded"),
        ({"steps": (0.5, 0.2)}, ValueError, "increase"),
        ({"steps": (0.5, 1.2), "order": "insertion"}, ValueError, "from 0 to 1"),
        ({"order": "upwards"}, ValueError, "'positive', 'negative', 'random'"),
        ({"order": ()}, ValueError, "possible are"),
        ({"order": ("positive", "positive")}, ValueError, "once"),
        ({"order": ("positive", "insertion")}, ValueError, "one test of each"),
        ({"mean": None, "std": None}, ValueError, "baseline=..., the value of black"),
        ({"mean": None}, ValueError, "mean=... and std=..."),
        ({"baseline": 0.0}, ValueError, "mean=... and std=..."),
        ({"std": (1.0, 0.0, 1.0)}, ValueError, "positive"),
        ({"mean": (0.5, math.nan, 0.5)}, ValueError, "finite"),
        ({"mean": (0.5,), "std": (0.5,)}, ValueError, "each of the 3 channels"),
        ({"mean": None, "std": None, "baseline": torch.zeros(2)}, ValueError, "possible: a number"),
        ({"internal_batch_size": 0}, ValueError, "at least 1"),
        ({"random_grid": (0, 3)}, ValueError, "at least one row"),
        ({"confidence": 95}, ValueError, "confidence"),
        ({"head": 3}, TypeError, "head"),
    ],
)
def test_arguments(arguments: dict, error: type[Exception], words: str) -> None:
    model, inputs, maps, target = case()
    with pytest.raises(error, match=words):
        ClassPerturbationTest(model, **{"mean": MEAN, "std": STD, **arguments}).run(inputs, maps, target)
    assert not model.sizes  # refused before the model runs


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda x, m, t: (x, m[:, :, :3], t), ValueError, 'output="input"'),
        (lambda x, m, t: (x, m[:2], t), ValueError, "do not fit"),
        (lambda x, m, t: (x, m.expand(-1, 3, -1, -1), t), ValueError, "do not fit"),
        (lambda x, m, t: (x, m.masked_fill(m == m.max(), torch.nan), t), ValueError, "not finite"),
        (lambda x, m, t: (x, m.masked_fill(m == m.max(), torch.inf), t), ValueError, "not finite"),
        (lambda x, m, t: (x[0], m, t), ValueError, r"\[B, C, H, W\]"),
        (lambda x, m, t: (x.long(), m, t), ValueError, "floating point"),
        (lambda x, m, t: (x[:0], m[:0], t[:0]), ValueError, r"\[B, C, H, W\]"),
        (lambda x, m, t: (x, m, 4), ValueError, r"targets: class 4 .* \(0..3\)"),
        (lambda x, m, t: (x, m, [0, -1, 2]), ValueError, "targets: class -1"),
        (lambda x, m, t: (x, m, t[:2]), ValueError, "for 3 images"),
        (lambda x, m, t: (x, m, t.double()), TypeError, "class numbers"),
        (lambda x, m, t: (x, m, t, 9), ValueError, "labels: class 9"),
    ],
)
def test_inputs(change, error: type[Exception], words: str) -> None:
    model, inputs, maps, target = case()
    with pytest.raises(error, match=words):
        ClassPerturbationTest(model, mean=MEAN, std=STD).run(*change(inputs, maps, target))
    assert len(model.sizes) <= 1  # at most the whole images


def test_models_without_one_score_a_class() -> None:
    _, inputs, maps, target = case()
    for model, words in ((nn.Identity(), r"one score a class \[B, K\]"), (nn.Flatten(0), r"one score a class")):
        with pytest.raises(UnsupportedModelError, match=words):
            ClassPerturbationTest(model, mean=MEAN, std=STD).run(inputs, maps, target)
    for forward in (lambda x: x, lambda x: torch.zeros(1, 4), lambda x: "scores"):
        with pytest.raises(UnsupportedModelError, match="give forward=callable"):
            ClassPerturbationTest(Small(), mean=MEAN, std=STD, forward=forward).run(inputs, maps, target)
    with pytest.raises(ValueError, match="not finite"):
        ClassPerturbationTest(Small(), baseline=0.0, forward=lambda x: torch.full((len(x), 4), torch.nan)).run(
            inputs, maps, target
        )


def test_a_two_tower_model_is_tested_through_the_tower_of_its_inputs() -> None:
    from tests.builders.transformers_models import _IMAGE, _TEXT, build

    towers = {"vision_config": _IMAGE, "text_config": {**_TEXT, "projection_size": 32}}
    clip = build("CLIP", "Model", "sdpa", **towers, projection_dim=16)
    test = ClassPerturbationTest(clip, baseline=0.0, head=torch.randn(4, 16), random_grid=(4, 4))
    result = test.run(torch.randn(2, 3, 32, 32), torch.rand(2, 1, 32, 32), targets=[0, 3], labels=[0, 1])
    assert result.curve("accuracy", "positive").mean.shape == (9,)
