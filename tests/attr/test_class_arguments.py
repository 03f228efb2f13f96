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
from captum_ultra import AttentionRollout, GenericAttention, UnsupportedModelError
from captum_ultra.attr.methods import METHODS, method_class
from tests.attr.models import small_classifier as small
from tests.attr.test_models_as_found import assert_same, state_of, state_of_torch, unusual
from tests.builders import open_clip_models, timm_models, transformers_models
from tests.builders.case import stir
from tests.builders.classifiers import TEXTS, classifier_named
from tests.builders.transformers_models import _IMAGE, _TEXT

NEED_NO_CLASS = ("raw_attention", "rollout")
NEED_CLASS = [name for name in METHODS if name not in NEED_NO_CLASS]


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
        scaled = method.attribute(x, target=1, rescale=True).flatten(1)
        assert scaled.amin(1).eq(0).all() and scaled.amax(1).eq(1).all()

    def test_targets_of_every_kind(self, name: str) -> None:
        """One for all, one a sample, several a sample, the predicted one; of latents as well, several in chunks."""
        model, x = small().double(), images().double()
        method, options = method_class(name)(model), {"output": "patches"}
        several = method.attribute(x, target=torch.tensor([[0, 1], [4, 1], [2, 1]]), **options)
        assert several.shape == (3, 2, 16)
        close = {"rtol": 1e-9, "atol": 1e-9 * several.abs().max().item()}
        torch.testing.assert_close(method.attribute(x, target=[0, 4, 2], **options), several[:, 0], **close)
        torch.testing.assert_close(method.attribute(x, target=1, **options), several[:, 1], **close)
        torch.testing.assert_close(
            method.attribute(x, **options), method.attribute(x, target=model(x).argmax(-1), **options), **close
        )
        alone = [method.attribute(x[i : i + 1], target=[0, 4, 2][i], **options)[0] for i in range(3)]
        torch.testing.assert_close(torch.stack(alone), several[:, 0], **close)
        same = torch.allclose(*(several[:, each] / several[:, each].abs().amax() for each in (0, 1)), atol=1e-4)
        assert same == (name in NEED_NO_CLASS)

    def test_latents_of_every_kind(self, name: str) -> None:
        x, options = images().double(), {"layer": 2, "output": "patches"}
        method = method_class(name)(small().double())
        every = method.attribute(x, token="all", internal_batch_size=5, **options)
        assert every.shape == (3, 17, 16)
        close = {"rtol": 1e-9, "atol": 1e-9 * every.abs().max().item()}
        torch.testing.assert_close(method.attribute(x, token="patches", **options), every[:, 1:], **close)
        torch.testing.assert_close(method.attribute(x, token=(1, 2), **options), every[:, 7], **close)
        by_sample = method.attribute(x, target=[3, 0, 9], **options)
        torch.testing.assert_close(by_sample, every[range(3), [3, 0, 9]], **close)
        alone = [method.attribute(x[i : i + 1], token=[3, 0, 9][i], **options)[0] for i in range(3)]
        torch.testing.assert_close(torch.stack(alone), by_sample, **close)

    def test_works_without_gradients_and_leaves_the_model_as_it_was(self, name: str) -> None:
        model, x = unusual(small()), images(2)
        method, before, torch_before = method_class(name)(model), state_of(model), state_of_torch()
        first = method.attribute(x, target=1)
        with torch.no_grad():
            assert torch.equal(method.attribute(x, target=1), first)
        with torch.inference_mode():
            assert torch.equal(method.attribute(x + 0, target=torch.tensor([1, 1])), first)
        with pytest.raises(ValueError, match="class 6 does not exist, the model has 6 classes"):
            method.attribute(x, target=6)
        assert_same(state_of(model), before)
        assert_same(state_of_torch(), torch_before)
        assert x.grad is None and not x.requires_grad
        assert torch.equal(method_class(name)(model.eval()).attribute(x, target=1), first)


@pytest.mark.parametrize("name", ["legrad", "residual_lrp", "lrp"])
def test_goes_through_the_wrappers_of_captum(name: str) -> None:
    method, x = method_class(name)(small()), images(2)
    smooth = NoiseTunnel(method).attribute(x, nt_samples=3, stdevs=0.1, target=torch.tensor([0, 1]))
    assert smooth.shape == (2, 1, 16, 16)
    assert sensitivity_max(method.attribute, x, n_perturb_samples=2, target=torch.tensor([0, 1])).shape == (2,)


@pytest.mark.parametrize("name", NEED_CLASS)
def test_models_without_classes_are_refused_with_the_remedy(name: str) -> None:
    headless = stir(timm_models.build("vit_small_patch16_224", patch_size=8, num_classes=0)).eval()
    with pytest.raises(UnsupportedModelError, match=r"VisionTransformer returns features.*head=callable"):
        method_class(name)(headless).attribute(torch.randn(1, 3, 32, 32), target=0)


def test_a_hidden_state_and_an_embedding_are_no_classes() -> None:
    model = transformers_models.build("ViT", "Model", "sdpa", **_IMAGE)
    with pytest.raises(UnsupportedModelError, match="ViTModel returns features"):
        GenericAttention(model).attribute(torch.randn(1, 3, 32, 32), target=0)
    with pytest.raises(UnsupportedModelError, match="zero-shot"):
        GenericAttention(open_clip_models.clip().visual).attribute(torch.randn(1, 3, 32, 32), target=0)


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


@pytest.mark.parametrize("name", ["gae", "lrp", "residual_lrp"])
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
        ({"layers": 2}, TypeError, "no argument 'layers'.*GenericAttention: start_layer"),
        ({"gamma": 1.0}, TypeError, "no argument 'gamma'"),
        ({"start_layer": 3}, ValueError, "start_layer=3 does not exist: with 3 blocks"),
        ({"start_layer": 2, "layer": 2}, ValueError, "start_layer=2 does not exist: with 2 blocks"),
        ({"start_layer": 0.5}, TypeError, "start_layer must be an integer"),
        ({"score": "energy"}, TypeError, r"score='energy' is of latent tokens; give token= or layer="),
        ({"class_score": "logit", "token": 1}, TypeError, "'class_score' is an argument of explanations of a class"),
        ({"readout": [0], "layer": 2}, TypeError, "'readout' is an argument of explanations of a class"),
        ({"internal_batch_size": 0}, ValueError, "at least 1"),
    ],
)
def test_bad_arguments_say_what_is_possible(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        GenericAttention(small()).attribute(images(), **options)


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("rollout", {"token": 1, "gamma": 1.0}, TypeError, "no argument 'gamma'.*AttentionRollout: start_layer"),
        ("attcat", {"start_layer": 0}, TypeError, "no argument 'start_layer'.*of its own it has none"),
        ("lrp", {"class_score": "probability"}, ValueError, "class_score='probability'.*logit"),
        ("partial_lrp", {"class_score": "probability"}, ValueError, "class_score='probability'.*logit"),
        ("lrp", {"rules": "epsilon"}, ValueError, "rules='epsilon' is unknown; possible: 'conserving', 'published'"),
        ("residual_lrp", {"gamma": -0.5}, ValueError, r"gamma=-0.5: .* gamma >= 0"),
        ("residual_lrp", {"gamma": float("nan")}, ValueError, "gamma=nan"),
        ("residual_lrp", {"attention": "half"}, ValueError, "attention='half' is unknown; possible: 'constant', 'hal"),
        ("residual_lrp", {"gates": "open"}, ValueError, "gates='open' is unknown; possible: 'gradient', 'constant'"),
        ("conservative_lrp", {"reading": "sum"}, ValueError, "reading='sum' is unknown; possible: 'signed'"),
        ("conservative_lrp", {"gamma": 1.0}, TypeError, "no argument 'gamma'.*attention, gates, reading"),
        ("token_tm", {"necc_scale": "tokens"}, ValueError, "necc_scale='tokens'.*'one', 'n'"),
        ("token_tm", {"first_blocks": 4}, ValueError, r"first_blocks=4: there are 3 blocks.*1\.\.3"),
        ("token_tm", {"first_blocks": 3, "layer": 2}, ValueError, r"first_blocks=3: there are 2 blocks"),
        ("token_tm", {"first_blocks": 1, "aggregation": False}, ValueError, "needs aggregation=True"),
    ],
)
def test_choices_that_a_method_does_not_have(
    name: str, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        method_class(name)(small()).attribute(images(), **options)


class Powers(nn.Module):
    """An operation of which no rule is known."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.exp(x)


@pytest.mark.parametrize("name", ["lrp", "partial_lrp", "transformer_attribution", "conservative_lrp", "residual_lrp"])
def test_an_operation_without_a_rule_is_named(name: str) -> None:
    model = small()
    model.blocks[1].mlp[1] = Powers()
    options: dict[str, Any] = {"gates": "constant"} if name == "conservative_lrp" else {}
    with pytest.raises(UnsupportedModelError, match=r"exp of \[3, 17, 64\] in blocks\.1\.mlp\.1 \(Powers\)"):
        method_class(name)(model).attribute(images(), token=1, layer=2, **options)
    assert method_class(name)(model).attribute(images(), token=1, layer=1, **options).shape == (3, 1, 16, 16)


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


@pytest.mark.parametrize("name", ["attcat", "conservative_lrp", "gae", "token_tm"])
def test_probabilities_near_one_keep_their_gradient_in_float16(name: str) -> None:
    """Each sample by itself: p (1 - p) is 1e-10 of one and a tenth of its neighbour's."""
    model = small()
    with torch.no_grad():
        model.head.weight.mul_(12)
        model.head.bias.mul_(12)
    x, patches = images(), {"output": "patches", "class_score": "probability", "target": [[5, 1], [4, 1], [1, 5]]}
    near = model(x).softmax(-1)
    assert near[0, 5] > 1 - 1e-6 and near[0, 1] < 1e-9 and near[1, 1] < 1 - 1e-4
    exact = method_class(name)(model.double()).attribute(x.double(), **patches).flatten(0, 1)
    found = method_class(name)(model.half()).attribute(x.half(), **patches).double().flatten(0, 1)
    largest = exact.abs().amax(1, keepdim=True)
    assert (largest > 0).all()
    torch.testing.assert_close(found / largest, exact / largest, rtol=0, atol=0.2)


def test_several_labels_at_once_have_no_softmax() -> None:
    model = transformers_models.build(
        "Bert", "ForSequenceClassification", "sdpa", **_TEXT, num_labels=3, problem_type="multi_label_classification"
    )
    ids = torch.randint(3, 50, (1, 6))
    with pytest.raises(ValueError, match=r'several labels at once.*class_score="logit"'):
        GenericAttention(model).attribute(ids, target=0, class_score="probability")
    assert GenericAttention(model).attribute(ids, target=0).shape == (1, 6)


def test_every_method_is_importable_from_the_top() -> None:
    for name in METHODS.values():
        assert issubclass(getattr(captum_ultra, name), captum_ultra.GenericAttention.__mro__[1])
        assert isinstance(getattr(captum_ultra, name)(nn.Linear(1, 1)).has_convergence_delta(), bool)


@pytest.mark.parametrize("name", ["gae", "attcat", "conservative_lrp", "lrp", "rollout"])
def test_class_scores_that_are_no_numbers(name: str) -> None:
    model = small()
    with torch.no_grad():
        model.head.bias[2] = torch.nan
    with pytest.raises(ValueError, match=r"class scores of ViTClassifier contain NaN.*weights of the head"):
        method_class(name)(model).attribute(torch.randn(1, 3, 16, 16), target=1)
