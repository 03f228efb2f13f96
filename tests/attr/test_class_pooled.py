"""Classes that are read at many patches: what their maps show, and what they leave out."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_ultra import ConservativeLRP, GenericAttention, TransformerAttribution
from captum_ultra.attr.methods import METHODS, method_class
from tests.attr.models import Text, Vit
from tests.attr.told import TARGETS, attribute, told
from tests.builders import transformers_models
from tests.builders.case import stir
from tests.builders.classifiers import classifier_named
from tests.builders.transformers_models import _IMAGE
from tests.reference import class_methods

POOLED = ("gae", "token_tm", "transformer_attribution")
pytestmark = pytest.mark.filterwarnings("ignore:little is left in a map:UserWarning")
pooled = pytest.mark.parametrize("name", POOLED)


class Mean(Vit):
    """Reads the class off the mean of the patches, and of CLS with a part of its own."""

    cls_part = 0.0

    def forward(self, x: Tensor, shift: Tensor | float = 0.0) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + shift
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.cls_part * x[:, 0] + (1 - self.cls_part) * x[:, 1:].mean(1))


def mean_model(cls_part: float = 0.0) -> Any:
    torch.manual_seed(0)
    model = Mean().double().eval()
    model.cls_part = cls_part
    return model


def images() -> Tensor:
    return torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def correlation(one: Tensor, other: Tensor) -> Tensor:
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(one, other, strict=True)])


@pooled
def test_two_classes_have_different_maps_and_neither_is_flat(name: str) -> None:
    maps = method_class(name)(mean_model()).attribute(images(), target=[[0, 3], [0, 3]], output="patches")
    assert (maps.amax(-1) > 2 * maps.amin(-1)).all()
    assert (correlation(maps[:, 0], maps[:, 1]) < 0.9).all()


@pooled
def test_a_millionth_of_the_offset_is_not_rounded_away(name: str) -> None:
    model = mean_model()
    with torch.no_grad():
        model.head.weight.mul_(1e-8)
        model.head.bias.zero_()
    options: dict[str, Any] = {"target": 1, "output": "patches", "class_score": "logit"}
    exact = method_class(name)(model).attribute(images(), **options)
    assert 0 < exact.max() < 1e-8
    found = method_class(name)(model.float()).attribute(images().float(), **options)
    largest = exact.amax(1, keepdim=True)
    torch.testing.assert_close(found.double() / largest, exact / largest, rtol=0, atol=1e-4)


@pooled
def test_several_targets_are_what_each_is_alone(name: str) -> None:
    method, x = method_class(name)(mean_model(0.3)), images()
    with pytest.warns(UserWarning, match="drowns the rest"):
        every = method.attribute(x, target=[[0, 3, 1], [4, 2, 0]], output="tokens", self_token="keep")
    in_chunks = method.attribute(x, target=[[0, 3, 1], [4, 2, 0]], output="tokens", internal_batch_size=2)
    own = every - in_chunks
    assert own[..., 0].eq(0).all() and (own[..., 1:] > 0).all()
    for place, targets in enumerate([[0, 4], [3, 2], [1, 0]]):
        torch.testing.assert_close(method.attribute(x, target=targets, output="tokens"), in_chunks[:, place])


def test_tokens_that_are_named_with_their_own_entries_are_the_published_row() -> None:
    """Every patch has its row of the product, in equal parts, the identity included."""
    classifier = classifier_named("timm-classifier-mean")
    with pytest.warns(UserWarning, match=r'self_token="keep": .* 16 patches .* is all but \de-02 of a map'):
        found = attribute("GenericAttention", classifier, readout=classifier.readout, self_token="keep")
    run = told(classifier)
    want = class_methods.generic_attention(run.recording, run.score(), classifier.readout)
    torch.testing.assert_close(found, want, rtol=1e-9, atol=1e-12)


def test_a_head_of_cls_and_patches_is_read_by_its_gradient() -> None:
    """DINOv2: one linear layer of CLS beside the mean of 16 patches; CLS has its half of the gradient, no 17th."""
    model = stir(transformers_models.build("Dinov2", "ForImageClassification", "sdpa", **_IMAGE, num_labels=5))
    model, x = model.double().eval(), torch.randn(2, 3, 32, 32, dtype=torch.float64)
    width = model.classifier.in_features // 2
    with torch.no_grad():
        model.classifier.weight[2, :width] *= 0.1
    for target, low, high in ((1, 0.3, 0.7), (2, 0.03, 0.2)):
        options: dict[str, Any] = {"target": target, "output": "tokens", "start_layer": -1}
        shown = GenericAttention(model).attribute(x, **options)
        with pytest.warns(UserWarning, match="drowns the rest"):
            rows = GenericAttention(model).attribute(x, **options, self_token="keep")
        kept = (rows - shown)[:, 1:].sum(1)  # of the patches; all weights sum to one
        assert ((1 - kept > low) & (1 - kept < high)).all()


def test_transformer_attribution_begins_at_the_first_block_where_patches_are_read() -> None:
    x, options = images(), {"target": 1, "output": "tokens"}
    for part, start in ((0.0, 0), (1.0, 1)):
        method = TransformerAttribution(mean_model(part))
        found = method.attribute(x, **options)
        torch.testing.assert_close(found, method.attribute(x, **options, start_layer=start))
        assert not torch.allclose(found, method.attribute(x, **options, start_layer=1 - start))


def test_methods_without_a_class_weight_cls_as_well() -> None:
    rollout = method_class("raw_attention")
    half, none = (rollout(mean_model(part)).attribute(images(), output="tokens") for part in (0.5, 0.0))
    alone = rollout(mean_model(0.5)).attribute(images(), output="tokens", readout=[0])
    torch.testing.assert_close(half, 0.5 * alone + 0.5 * none)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("part", [1.0, 0.0])
def test_published_maps_of_cls_are_silent_and_keep_their_row(part: float) -> None:
    """And a pooled one that shows something says nothing either."""
    method = GenericAttention(mean_model(part))
    tokens = method.attribute(images(), target=1, output="tokens")
    assert (tokens[:, 0] >= 1).all() == (part == 1)
    if part == 1:
        torch.testing.assert_close(method.attribute(images(), target=1, output="tokens", self_token="keep"), tokens)


@pooled
def test_says_so_where_nothing_is_left(name: str) -> None:
    """Attention that brings every patch the same takes no part in which of them speak for the class."""
    model = mean_model()
    with torch.no_grad():
        for block in model.blocks:
            block.proj.weight.zero_()
    x = images()
    with pytest.warns(UserWarning, match=r"nothing is left in 2 of 2 maps: the class is read at 16 patches.*Cons"):
        assert not method_class(name)(model).attribute(x, target=1, output="patches").any()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ConservativeLRP(model).attribute(x, target=1, output="patches").any()


def test_says_so_where_little_is_left() -> None:
    model = mean_model()
    with torch.no_grad():
        model.head.weight.mul_(0.03)
    with pytest.warns(UserWarning, match=r"little is left in a map, \de-04 of its relevance: .* 16 patches.*Conserv"):
        GenericAttention(model).attribute(images(), target=1)


class MeanText(Text):
    """Ids to classes, by the mean of all tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(16, 3)

    def forward(self, ids: Tensor) -> Tensor:
        return self.head(super().forward(ids).mean(1))


@pooled
def test_a_text_that_is_averaged_keeps_nothing_for_its_words(name: str) -> None:
    torch.manual_seed(0)
    model, ids = MeanText().double().eval(), torch.tensor([[1, 5, 2, 9, 4]])
    method, options = method_class(name)(model), {"target": [[0, 1]], "class_score": "logit"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shown, kept = (method.attribute(ids, **options, self_token=each) for each in ("zero", "keep"))
    own = kept - shown
    assert (own > 0).all()
    torch.testing.assert_close(own[:, 0], own[:, 1])


class Several(Vit):
    """Reads the class off CLS of the last two layers."""

    detached = False

    def forward(self, x: Tensor, shift: Tensor | float = 0.0) -> Tensor:
        x = self.patch(x).flatten(2).transpose(1, 2) + shift
        x = torch.cat([self.cls.expand(len(x), -1, -1), x], 1) + self.positions
        kept = []
        for block in self.blocks:
            x = block(x)
            kept.append(x[:, 0])
        return self.head(kept[-1] + (kept[-2].detach() if self.detached else kept[-2]))


@pytest.mark.parametrize("name", METHODS)
def test_a_head_that_reads_several_layers_is_told_of_where_it_matters(name: str) -> None:
    torch.manual_seed(0)
    model, x = Several().eval(), images().float()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        method_class(name)(model).attribute(x, target=1)
        method_class(name)(model).attribute(x, token=1, layer=2)
    told_of = [str(each.message) for each in caught if "earlier layers" in str(each.message)]
    follow_every_path = name in ("conservative_lrp", "residual_lrp", "lrp", "attcat")
    see_one_block = name in ("raw_attention", "grad_cam", "partial_lrp")  # and say so themselves
    assert len(told_of) == (0 if follow_every_path or see_one_block else 1)
    assert all("class scores of Several depend on latents of earlier layers" in each for each in told_of)
    model.detached = True
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        method_class(name)(model).attribute(x, target=1)


def test_the_remedy_for_such_a_head_follows_every_path() -> None:
    """Both readings of a linear head add up."""
    torch.manual_seed(0)
    model, x = Several().double().eval(), images()
    both = ConservativeLRP(model).attribute(x, target=TARGETS, output="tokens")
    model.detached = True
    last = ConservativeLRP(model).attribute(x, target=TARGETS, output="tokens")
    model.detached, model.blocks = False, model.blocks[:2]
    model.forward = lambda x: _first_two(model, x)
    torch.testing.assert_close(both - last, ConservativeLRP(model).attribute(x, target=TARGETS, output="tokens"))


def _first_two(model: Any, x: Tensor) -> Tensor:
    x = model.patch(x).flatten(2).transpose(1, 2)
    x = torch.cat([model.cls.expand(len(x), -1, -1), x], 1) + model.positions
    for block in model.blocks:
        x = block(x)
    return model.head(x[:, 0])
