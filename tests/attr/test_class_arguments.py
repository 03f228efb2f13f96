"""What every explanation of a class takes, gives, refuses, and leaves as it was."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from captum.attr import NoiseTunnel
from captum.metrics import sensitivity_max
from torch import Tensor, nn

import captum_ultra
from captum_ultra import AttentionRollout, GenericAttention, LeGrad, UnsupportedModelError
from captum_ultra.attr.methods import METHODS, method_class
from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig
from tests.builders import open_clip_models, timm_models, transformers_models
from tests.builders.case import stir
from tests.builders.classifiers import TEXTS, classifier_named
from tests.builders.transformers_models import _IMAGE, _TEXT

NEED_NO_CLASS = ("raw_attention", "rollout")


def small(**sizes: Any) -> ViTClassifier:
    torch.manual_seed(0)
    model = ViTClassifier(ViTClassifierConfig(**{"image_size": 16, "dim": 32, "depth": 3, "heads": 4, **sizes}))
    return stir(model).eval()  # type: ignore[return-value]


def images(batch: int = 3) -> Tensor:
    return torch.randn(batch, 3, 16, 16, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", METHODS)
class TestEveryMethod:
    def test_has_the_shapes_of_captum(self, name: str) -> None:
        method, x = method_class(name)(small()), images(2)
        maps = method.attribute(x, target=1)
        assert maps.shape == (2, 1, 16, 16) and maps.is_contiguous() and not maps.requires_grad
        (in_tuple,) = method.attribute((x,), target=1)
        torch.testing.assert_close(in_tuple, maps)
        assert method.attribute(x, target=1, output="patches").shape == (2, 16)
        assert method.attribute(x, target=1, output="channels").shape == x.shape

    def test_a_batch_is_a_loop(self, name: str) -> None:
        method, x, classes = method_class(name)(small()), images(), [0, 4, 2]
        together = method.attribute(x, target=torch.tensor(classes), output="patches")
        alone = [method.attribute(x[i : i + 1], target=classes[i], output="patches")[0] for i in range(3)]
        torch.testing.assert_close(together, torch.stack(alone), rtol=1e-3, atol=1e-5)

    def test_no_target_is_the_predicted_class(self, name: str) -> None:
        model, x = small(), images()
        predicted = model(x).argmax(-1)
        method = method_class(name)(model)
        torch.testing.assert_close(method.attribute(x), method.attribute(x, target=predicted))

    def test_rescaled_maps_reach_from_zero_to_one(self, name: str) -> None:
        maps = method_class(name)(small()).attribute(images(), target=0, rescale=True).flatten(1)
        assert maps.amin(1).eq(0).all() and maps.amax(1).eq(1).all()

    def test_works_without_gradients_and_leaves_the_model_as_it_was(self, name: str) -> None:
        model = small().train()
        model.blocks[0].requires_grad_(False)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        flags = [parameter.requires_grad for parameter in model.parameters()]
        attributes = [set(vars(module)) for module in model.modules()]
        x = images(2)
        with torch.no_grad():
            first = method_class(name)(model).attribute(x, target=1)
        with pytest.raises(ValueError, match="class 6 does not exist, the model has 6 classes"):
            method_class(name)(model).attribute(x, target=6)
        assert torch.is_grad_enabled() and x.grad is None and not x.requires_grad
        assert all(module.training for module in model.modules())
        assert flags == [parameter.requires_grad for parameter in model.parameters()]
        assert attributes == [set(vars(module)) for module in model.modules()]
        assert all(parameter.grad is None for parameter in model.parameters())
        assert all(not m._forward_hooks and not m._forward_pre_hooks for m in model.modules())
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key])
        torch.testing.assert_close(method_class(name)(model.eval()).attribute(x, target=1), first)

    def test_depends_on_the_class_unless_it_needs_none(self, name: str) -> None:
        method, x = method_class(name)(small()), images(2)
        same = torch.allclose(
            method.attribute(x, target=1, rescale=True), method.attribute(x, target=2, rescale=True), atol=1e-4
        )
        assert same == (name in NEED_NO_CLASS)

    def test_goes_through_the_wrappers_of_captum(self, name: str) -> None:
        method, x = method_class(name)(small()), images(2)
        smooth = NoiseTunnel(method).attribute(x, nt_samples=3, stdevs=0.1, target=torch.tensor([0, 1]))
        assert smooth.shape == (2, 1, 16, 16)
        assert sensitivity_max(method.attribute, x, n_perturb_samples=2, target=torch.tensor([0, 1])).shape == (2,)


@pytest.mark.parametrize("name", [name for name in METHODS if name not in NEED_NO_CLASS])
class TestModelsWithoutClasses:
    def test_headless_models_are_refused_with_the_remedy(self, name: str) -> None:
        headless = stir(timm_models.build("vit_small_patch16_224", patch_size=8, num_classes=0)).eval()
        with pytest.raises(UnsupportedModelError, match=r"VisionTransformer returns features.*head=callable"):
            method_class(name)(headless).attribute(torch.randn(1, 3, 32, 32), target=0)

    def test_a_hidden_state_is_no_class(self, name: str) -> None:
        model = transformers_models.build("ViT", "Model", "sdpa", **_IMAGE)
        with pytest.raises(UnsupportedModelError, match="ViTModel returns features"):
            method_class(name)(model).attribute(torch.randn(1, 3, 32, 32), target=0)

    def test_clip_without_class_embeddings_is_refused(self, name: str) -> None:
        with pytest.raises(UnsupportedModelError, match="zero-shot"):
            method_class(name)(open_clip_models.clip().visual).attribute(torch.randn(1, 3, 32, 32), target=0)


def test_regressions_are_refused() -> None:
    model = transformers_models.build("Bert", "ForSequenceClassification", "sdpa", **_TEXT, num_labels=1)
    ids = torch.randint(3, 50, (1, 6))
    with pytest.raises(UnsupportedModelError, match="regression"):
        GenericAttention(model).attribute(ids, target=0)
    model = transformers_models.build(
        "Bert", "ForSequenceClassification", "sdpa", **_TEXT, num_labels=3, problem_type="regression"
    )
    with pytest.raises(UnsupportedModelError, match="configured for regression"):
        GenericAttention(model).attribute(ids, target=0)


def test_language_models_are_pointed_elsewhere() -> None:
    model = transformers_models.build("GPT2", "LMHeadModel", "sdpa", vocab_size=50, n_embd=32, n_layer=2, n_head=4)
    with pytest.raises(UnsupportedModelError, match="TokenContribution"):
        GenericAttention(model).attribute(torch.randint(3, 50, (1, 6)), target=0)


def test_a_causal_classifier_is_read_at_its_last_token() -> None:
    model = transformers_models.build(
        "GPT2", "ForSequenceClassification", "sdpa", vocab_size=50, n_embd=32, n_layer=2, n_head=4, num_labels=3,
        pad_token_id=0,
    )  # fmt: skip
    ids = torch.randint(3, 50, (2, 6))
    method = AttentionRollout(stir(model).eval())
    torch.testing.assert_close(method.attribute(ids), method.attribute(ids, readout=[-1]))


def test_gradient_free_methods_work_without_a_head() -> None:
    headless = stir(timm_models.build("vit_small_patch16_224", patch_size=8, num_classes=0)).eval()
    x = torch.randn(2, 3, 32, 32)
    assert AttentionRollout(headless).attribute(x).shape == (2, 1, 32, 32)
    with pytest.raises(UnsupportedModelError, match="returns features"):
        AttentionRollout(headless).attribute(x, target=0)


@pytest.mark.parametrize("name", METHODS)
def test_whole_clip_with_class_embeddings_equals_its_tower(name: str) -> None:
    clip = stir(open_clip_models.clip()).eval()
    x, texts = torch.randn(2, 3, 32, 32), TEXTS.float()
    whole = method_class(name)(clip, head=texts).attribute(x, target=1, output="patches")

    def head(embedding: Tensor) -> Tensor:
        cosines: Tensor = F.normalize(embedding, dim=-1) @ F.normalize(texts, dim=-1).T
        return clip.logit_scale.exp() * cosines

    tower = method_class(name)(clip.visual, head=head).attribute(x, target=1, output="patches")
    torch.testing.assert_close(whole, tower, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"target": -1}, ValueError, "class -1 does not exist"),
        ({"target": [0, 1]}, ValueError, "2 classes for a batch of 3"),
        ({"target": 0.5}, TypeError, "class number"),
        ({"target": (0, 1)}, TypeError, "one a sample"),
        ({"target": "dog"}, TypeError, "number of a class"),
        ({"target": []}, ValueError, "no class was given"),
        ({"readout": [0.5]}, TypeError, "integer"),
        ({"output": "pixels"}, ValueError, "output='pixels'"),
        ({"class_score": "loss"}, ValueError, "class_score='loss'.*'probability'"),
        ({"readout": 0}, ValueError, "readout must list"),
        ({"readout": [17]}, ValueError, "the model sees 17 tokens, 17 is none"),
        ({"layers": 2}, TypeError, "no argument 'layers'.*rescale"),
        ({"start_layer": 3}, ValueError, "start_layer=3 does not exist: with 3 blocks"),
        ({"start_layer": 0.5}, TypeError, "start_layer must be an integer"),
    ],
)
def test_bad_arguments_say_what_is_possible(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GenericAttention(small()).attribute(images(), **options)


def test_a_head_that_does_not_fit_is_refused() -> None:
    with pytest.raises(TypeError, match="head must be"):
        GenericAttention(small(), head="linear")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"class embeddings are \[K, d\]"):
        GenericAttention(small(), head=torch.ones(3))
    with pytest.raises(ValueError, match="do not fit the model's embedding"):
        GenericAttention(open_clip_models.clip().visual, head=torch.ones(3, 7)).attribute(torch.randn(1, 3, 32, 32))


def test_what_is_not_a_score_a_class_is_refused_by_its_shape() -> None:
    from captum_ultra.models.vit import VisionTransformer, ViTConfig

    denoiser = VisionTransformer(ViTConfig(dim=16, depth=1, heads=2))
    with pytest.raises(UnsupportedModelError, match=r"\[1, 3, 64, 64\] where one score a class"):
        GenericAttention(denoiser).attribute(torch.zeros(1, 3, 64, 64))


def test_legrad_puts_an_own_forward_of_a_block_back() -> None:
    model = small()
    original = model.blocks[1].forward
    wrapped = lambda *args: original(*args)  # noqa: E731 (as libraries that offload weights do)
    model.blocks[1].forward = wrapped
    LeGrad(model).attribute(images(1), target=0)
    assert model.blocks[1].forward is wrapped


@pytest.mark.parametrize("name", ["rollout", "gae", "attcat", "raw_attention", "legrad", "grad_cam"])
def test_bert_with_a_mask_ignores_its_padding(name: str) -> None:
    model = classifier_named("hf-BertForSequenceClassification-sdpa").case.model(torch.float64)
    ids = torch.randint(3, 50, (1, 9), generator=torch.Generator().manual_seed(0))
    padded, mask = F.pad(ids, (0, 3)), F.pad(torch.ones_like(ids), (0, 3))
    method = method_class(name)(model)
    found = method.attribute(padded, target=1, additional_forward_args=mask)
    torch.testing.assert_close(found[:, :9], method.attribute(ids, target=1), rtol=1e-9, atol=1e-12)
    assert found[:, 9:].abs().max() < 1e-12
    torch.testing.assert_close(
        found, method.attribute(padded, target=1, additional_forward_args={"attention_mask": mask})
    )


@pytest.mark.parametrize("name", METHODS)
def test_works_in_inference_mode_with_targets_made_there(name: str) -> None:
    method, x = method_class(name)(small()), images(2)
    expected = method.attribute(x, target=1)
    with torch.inference_mode():
        target = torch.tensor([1, 1])
        torch.testing.assert_close(method.attribute(x, target=target), expected)


def test_probabilities_near_one_keep_their_gradient() -> None:
    model = small()
    with torch.no_grad():
        model.head.weight.mul_(12)
        model.head.bias.mul_(12)
    x = images(1)
    assert model(x).softmax(-1).max() > 1 - 1e-6
    exact = method_class("token_tm")(model.double()).attribute(x.double(), rescale=True)
    found = method_class("token_tm")(model.float()).attribute(x, rescale=True)
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=1e-3)


def test_several_labels_at_once_have_no_softmax() -> None:
    model = transformers_models.build(
        "Bert", "ForSequenceClassification", "sdpa", **_TEXT, num_labels=3, problem_type="multi_label_classification"
    )
    ids = torch.randint(3, 50, (1, 6))
    with pytest.raises(ValueError, match=r'several labels at once.*class_score="logit"'):
        GenericAttention(model).attribute(ids, target=0, class_score="probability")
    assert GenericAttention(model).attribute(ids, target=0).shape == (1, 6)


def test_transformer_attribution_takes_a_model_of_one_block() -> None:
    assert method_class("transformer_attribution")(small(depth=1)).attribute(images(1)).shape == (1, 1, 16, 16)


def test_every_method_is_importable_from_the_top() -> None:
    for name in METHODS.values():
        assert issubclass(getattr(captum_ultra, name), captum_ultra.GenericAttention.__mro__[1])
        assert isinstance(getattr(captum_ultra, name)(nn.Linear(1, 1)).has_convergence_delta(), bool)
