"""What propagation covers, and what it refuses by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra import LRP, ConservativeLRP, GenericAttention, PartialLRP, UnsupportedModelError
from tests.builders import case_named, timm_models
from tests.builders.classifiers import classifier_named
from tests.reference import lrp as reference
from tests.relevance.lrp.propagate import input_relevance


class Written(nn.Module):
    """A module that computes a function of its input between two linear layers."""

    def __init__(self, function: Callable[[Tensor], Tensor], width: int = 6) -> None:
        super().__init__()
        self.function = function
        self.first, self.second = nn.Linear(width, width), nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.function(self.first(x)))


def written(function: Callable[[Tensor], Tensor]) -> Written:
    torch.manual_seed(0)
    return Written(function).double()


def signal(seed: int = 0) -> Tensor:
    return torch.randn(2, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def explain(model: nn.Module, x: Tensor, published: bool = False) -> Tensor:
    return input_relevance(model, model, x, lambda output: output[:, 1], published)


def by_hand(
    model: Written, x: Tensor, back: Callable[[Tensor, Tensor], Tensor], linear: Any = reference.linear
) -> Tensor:
    """The same with the function's rule written out: relevance of its output and its input -> of its input."""
    found = []
    with torch.no_grad():
        for sample in x:
            hidden = model.first(sample[None])
            of_output = linear(model.second.weight, model.function(hidden)[0], torch.eye(3).double()[1])
            found.append(linear(model.first.weight, sample, back(of_output, hidden[0])))
    return torch.stack(found)


CONSTANT = torch.linspace(0.5, 2.0, 6, dtype=torch.float64)
SAME = [
    ("gelu", F.gelu), ("relu", torch.relu), ("tanh", torch.tanh), ("softmax", lambda x: x.softmax(-1)),
    ("layer_norm", lambda x: F.layer_norm(x, (6,))), ("scale", lambda x: 2 * x / CONSTANT),
    ("bias", lambda x: x + CONSTANT - 1), ("quick_gelu", lambda x: x * torch.sigmoid(1.702 * x)),
    ("silu_by_hand", lambda x: torch.sigmoid(x) * x), ("length", lambda x: x / x.norm(dim=-1, keepdim=True)),
    ("length_with_floor", lambda x: x / (x.norm(dim=-1, keepdim=True) + 1e-6)), ("normalize", F.normalize),
    ("relu_in_place", lambda x: F.relu(x, inplace=True)), ("scale_in_place", lambda x: x.clone().mul_(CONSTANT)),
    ("square", lambda x: x * x),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function"), SAME, ids=[name for name, _ in SAME])
def test_all_relevance_goes_to_the_one_signal(name: str, function: Callable[[Tensor], Tensor]) -> None:
    model, x = written(function), signal()
    torch.testing.assert_close(explain(model, x), by_hand(model, x, lambda r, x: r), rtol=1e-6, atol=1e-9)


def halves(r: Tensor, x: Tensor) -> Tensor:
    """x_i y_i with y the other half of the channels: half of the relevance each."""
    return torch.cat([r, r]) / 2


def residual(r: Tensor, x: Tensor) -> Tensor:
    a, b = reference.add(x[None], torch.relu(x)[None], r[None])
    return a[0] + b[0]


RULED = [
    ("residual", lambda x: x + torch.relu(x), residual),
    ("residual_in_place", lambda x: torch.relu(x).add_(x), residual),
    ("difference", lambda x: x - (-torch.relu(x)), residual),
    ("permuted", lambda x: x.flip(-1).view(-1, 2, 3).transpose(1, 2).reshape(-1, 6),
     lambda r, x: r.view(3, 2).T.flatten().flip(-1)),
    ("pooled", lambda x: x.view(-1, 2, 3).mean(1).repeat(1, 2),
     lambda r, x: torch.stack([reference.total(x[c::3] / 2, r[c] + r[c + 3]) for c in range(3)], 1).flatten()),
    ("part_of_it_in_place", lambda x: _doubled_in_part(x), lambda r, x: r),
    ("written_into", lambda x: _written_into(x), lambda r, x: torch.cat([r[3:], torch.zeros(3).double()])),
]  # fmt: skip


def _doubled_in_part(x: Tensor) -> Tensor:
    y = x.clone()
    y[:, :3].mul_(2)
    y[:, 3:] += 1
    return y


def _written_into(x: Tensor) -> Tensor:
    y = torch.ones_like(x)
    y[:, 3:] = x[:, :3]
    return y


@pytest.mark.parametrize(("name", "function", "back"), RULED, ids=[name for name, *_ in RULED])
def test_other_operations_share_by_their_rules(
    name: str, function: Callable[[Tensor], Tensor], back: Callable[[Tensor, Tensor], Tensor]
) -> None:
    model, x = written(function), signal()
    torch.testing.assert_close(explain(model, x), by_hand(model, x, back), rtol=1e-6, atol=1e-9)


PUBLISHED = [
    ("residual", lambda x: x + torch.relu(x), lambda r, x: sum(reference.add_plainly(x, torch.relu(x), r))),
    ("difference", lambda x: x - torch.tanh(x), lambda r, x: sum(reference.add_plainly(x, -torch.tanh(x), r))),
    ("positions", lambda x: x + CONSTANT, lambda r, x: reference.add_plainly(x, CONSTANT, r)[0]),
    ("positions taken away", lambda x: CONSTANT - x, lambda r, x: reference.add_plainly(-x, CONSTANT, r)[0]),
    ("half of it added", lambda x: torch.add(CONSTANT, x, alpha=0.5),
     lambda r, x: reference.add_plainly(x / 2, CONSTANT, r)[0]),
    ("one", lambda x: 1 + x, lambda r, x: reference.add_plainly(x, torch.ones(6).double(), r)[0]),
    ("itself", lambda x: x + x, lambda r, x: r),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function", "back"), PUBLISHED, ids=[name for name, *_ in PUBLISHED])
def test_sums_and_linear_layers_of_the_published_rules(name: str, function: Any, back: Any) -> None:
    model, x = written(function), signal()
    expected = by_hand(model, x, back, reference.linear_apart)
    torch.testing.assert_close(explain(model, x, published=True), expected, rtol=1e-6, atol=1e-9)


def test_gated_units_halve_their_relevance() -> None:
    def gated(x: Tensor) -> Tensor:
        y = F.silu(x[:, :3]) * x[:, 3:]
        return torch.cat([y, y], 1)

    model, x = written(gated), signal()
    expected = by_hand(model, x, lambda r, x: torch.cat([r[:3] + r[3:]] * 2) / 2)
    torch.testing.assert_close(explain(model, x), expected, rtol=1e-6, atol=1e-9)


class Doubled(torch.autograd.Function):
    """An operation that torch announces to nobody."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return 2 * x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return 2 * grad


REFUSED = [
    ("exp", torch.exp, "torch.exp"),
    ("cumsum", lambda x: x.cumsum(1), "cumsum"),
    ("power", lambda x: x**2, "pow"),
    ("quotient", lambda x: x / (1 + torch.relu(x)), "divides two signals"),
    ("reciprocal", lambda x: 1 / x, "rtruediv|rdiv"),
    ("weights from the input", lambda x: F.linear(x, x.T @ x), "only its input"),
    ("normalisation by the input", lambda x: F.layer_norm(x, (6,), x.mean(0)), "only its input"),
    ("dropout", lambda x: F.dropout(x, 0.5), "random"),
    ("custom function", lambda x: torch.relu(Doubled.apply(x)), "DoubledBackward"),
    ("custom function in a sum", lambda x: 1 + Doubled.apply(x), "DoubledBackward"),
    ("gate as a signal", lambda x: x + torch.sigmoid(x), "gate or a norm"),
    ("result elsewhere", lambda x: torch.add(x, 1, out=torch.empty(2, 6).double()), "out="),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function", "message"), REFUSED, ids=[name for name, *_ in REFUSED])
def test_what_no_rule_covers_is_refused_by_name(name: str, function: Callable[[Tensor], Tensor], message: str) -> None:
    model = nn.Sequential(nn.Identity(), written(function))
    with pytest.raises(UnsupportedModelError, match=message) as refusal:
        explain(model, signal())
    assert "1 (Written)" in str(refusal.value)


def test_what_only_ends_in_a_custom_function_is_refused() -> None:
    model = written(torch.relu)
    with pytest.raises(UnsupportedModelError, match="DoubledBackward"):
        input_relevance(lambda x: Doubled.apply(model(x)), model, signal(), lambda output: output[:, 1])


def test_a_refusal_passes_through_models_that_catch_exceptions() -> None:
    def careful(x: Tensor) -> Tensor:
        try:
            return x.exp()
        except Exception:
            return x

    with pytest.raises(UnsupportedModelError, match="exp"):
        explain(written(careful), signal())


def test_harmless_operations_beside_the_signal_are_left_alone() -> None:
    def function(x: Tensor) -> Tensor:
        positive = (x > 0).to(x)
        table = torch.exp(torch.arange(6.0)).double()
        assert x.shape[1] == 6 and not x.isnan().any() and x.argmax() >= 0
        return x * positive + table + x.detach().exp()

    model, x = written(function), signal()
    torch.testing.assert_close(explain(model, x), by_hand(model, x, lambda r, x: r), rtol=1e-6, atol=1e-9)


def features(output: Any) -> Tensor:
    """What a model says of its last token, as if these were classes."""
    for name in ("logits", "pooler_output", "last_hidden_state"):
        output = getattr(output, name, output)
    return output if output.dim() == 2 else output[:, -1]


NAMES = ["timm-deit-distilled", "open_clip-vision-tower", "hf-BertModel-sdpa", "torch-encoder-prenorm-sequence-first"]


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_explained_like_its_samples(name: str) -> None:
    """Sums are renormalised within each sample, wherever its axis stands."""
    case = case_named(name)
    model, inputs, axis = case.model(torch.float64), case.inputs(torch.float64), 0 if case.batch_first else 1

    def head(output: Any) -> Tensor:
        return features(output if case.batch_first else output.transpose(0, 1))

    assert_batch_is_its_samples([LRP(model, head=head), ConservativeLRP(model, head=head)], inputs, axis)


def test_a_batch_of_images_in_their_own_sizes() -> None:
    model = timm_models.build(
        "naflexvit_base_patch16_gap", img_size=None, embed_dim=32, depth=2, num_heads=4
    ).eval().double()  # fmt: skip
    inputs = torch.randn(2, 3, 64, 96, dtype=torch.float64)
    assert_batch_is_its_samples([LRP(model), ConservativeLRP(model)], inputs, 0)


def assert_batch_is_its_samples(methods: list[Any], inputs: Tensor, axis: int) -> None:
    for method in methods:
        together = method.attribute(inputs, target=1, output="tokens")
        apart = [method.attribute(each, target=1, output="tokens") for each in inputs.split(1, axis)]
        torch.testing.assert_close(together, torch.cat(apart), rtol=1e-5, atol=1e-8)


def test_the_axis_of_the_samples_does_not_matter() -> None:
    case = case_named("torch-encoder-prenorm")
    first, last = case.model(torch.float64), case_named("torch-encoder-prenorm-sequence-first").model(torch.float64)
    inputs = case.inputs(torch.float64)
    for method in (LRP, ConservativeLRP):
        found = method(first, head=features).attribute(inputs, target=1)
        other = method(last, head=lambda output: features(output.transpose(0, 1)))
        torch.testing.assert_close(other.attribute(inputs.transpose(0, 1), target=1), found, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("published", [False, True])
def test_pixels_are_pixels_also_where_the_model_normalises_them_itself(published: bool) -> None:
    case = classifier_named("timm-classifier-vit").case
    model, images = case.model(torch.float64), case.inputs(torch.float64)
    mean, deviation = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)

    def logit(output: Tensor) -> Tensor:
        return output[:, 1]

    found = input_relevance(lambda x: model((x - mean) / deviation), model, images, logit, published)
    outside = input_relevance(model, model, (images - mean) / deviation, logit, published)
    torch.testing.assert_close(found, outside, rtol=1e-6, atol=1e-9)


def test_blocks_with_two_attentions_are_refused() -> None:
    model: Any = case_named("timm-vit").model()
    model.blocks = nn.Sequential(nn.Sequential(*model.blocks[:2]), nn.Sequential(*model.blocks[2:]))
    with pytest.raises(UnsupportedModelError, match=r"block 0 .* runs 2 attentions"):
        LRP(model, blocks="blocks").attribute(torch.randn(1, 3, 32, 32), target=1)


@pytest.mark.parametrize("method", [LRP, ConservativeLRP, GenericAttention])
def test_recomputed_blocks_are_refused(method: Any) -> None:
    case = case_named("hf-ViTForImageClassification-sdpa")
    model: Any = case.model()

    def recomputed(self: Any, *args: Any) -> Any:
        return torch.utils.checkpoint.checkpoint(type(self).forward, self, *args, use_reentrant=False)

    model.vit.layers[1].forward = recomputed.__get__(model.vit.layers[1])
    with pytest.raises(UnsupportedModelError, match="checkpointing"):
        method(model).attribute(case.inputs(), target=1)


@pytest.mark.parametrize("method", [LRP, PartialLRP])
def test_values_that_are_not_finite_are_an_error(method: Any) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        method(case_named("timm-vit").model()).attribute(torch.full((1, 3, 32, 32), torch.nan), target=1)


def test_autocast_does_not_bring_half_precision_back() -> None:
    case = case_named("timm-vit")
    method, images = LRP(case.model()), case.inputs()
    expected = method.attribute(images, target=1)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(method.attribute(images, target=1), expected)
