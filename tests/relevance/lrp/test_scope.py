"""What the scope covers, what it refuses by name, and that a model is left as it was found."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra import UnsupportedModelError
from captum_ultra.relevance.lrp import conservative_relevance, input_relevance, stream_relevance
from tests.builders import case_named
from tests.reference import lrp as reference


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


def explain(model: nn.Module, x: Tensor) -> Tensor:
    return input_relevance(model, model, x, lambda output: output[:, 1])


def by_hand(model: Written, x: Tensor, back: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The same with the function's rule written out: relevance of its output and its input -> of its input."""
    found = []
    with torch.no_grad():
        for sample in x:
            hidden = model.first(sample[None])
            of_output = reference.linear(model.second.weight, model.function(hidden)[0], torch.eye(3).double()[1])
            found.append(reference.linear(model.first.weight, sample, back(of_output, hidden[0])))
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


def logit(output: Any) -> Tensor:
    for name in ("logits", "pooler_output", "last_hidden_state"):
        output = getattr(output, name, output)
    return output[:, 1] if output.dim() == 2 else output[:, -1, 1]


NAMES = ["timm-vit", "timm-deit-distilled", "timm-siglip", "open_clip-vision-tower", "hf-BertModel-sdpa",
         "hf-ViTForImageClassification-eager", "torch-encoder-prenorm"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_batch_is_explained_like_its_samples(name: str) -> None:
    case = case_named(name)
    model, inputs = case.model(torch.float64), case.inputs(torch.float64)
    blocks = list(model.get_submodule(case.blocks))

    def all_of(inputs: Tensor) -> list[Tensor]:
        def run() -> Any:
            return case.call(model, inputs)

        found = [
            stream_relevance(run, model, blocks, logit, first=1).relevance,
            conservative_relevance(run, model, blocks, logit),
        ]
        if inputs.is_floating_point():
            found.append(input_relevance(lambda x: case.call(model, x), model, inputs, logit))
        return found

    together = all_of(inputs)
    apart = [all_of(sample[None]) for sample in inputs]
    for batch, *alone in zip(together, *apart, strict=True):
        torch.testing.assert_close(batch, torch.cat(alone), rtol=1e-5, atol=1e-8)


def test_pixels_are_pixels_also_where_the_model_normalises_them_itself() -> None:
    case = case_named("timm-vit")
    model, images = case.model(torch.float64), case.inputs(torch.float64)
    mean, deviation = torch.tensor([0.5, 0.4, 0.3]).view(3, 1, 1), torch.tensor([0.2, 0.3, 0.4]).view(3, 1, 1)

    def inside(x: Tensor) -> Any:
        return model((x - mean) / deviation)

    found = input_relevance(inside, model, images, logit)
    outside = input_relevance(model, model, (images - mean) / deviation, logit)
    torch.testing.assert_close(found, outside, rtol=1e-6, atol=1e-9)


def test_the_axis_of_the_samples_is_found_where_tokens_come_first() -> None:
    first, last = case_named("torch-encoder-prenorm"), case_named("torch-encoder-prenorm-sequence-first")
    found = []
    for case in (first, last):
        model, inputs = case.model(torch.float64), case_named("torch-encoder-prenorm").inputs(torch.float64)
        inputs = inputs if case.batch_first else inputs.transpose(0, 1)
        blocks = list(model.get_submodule(case.blocks))

        def explained(output: Tensor) -> Tensor:
            return (output if case.batch_first else output.transpose(0, 1))[:, 0, 1]  # noqa: B023

        def run() -> Tensor:
            return model(inputs)  # noqa: B023

        options = {"batch_first": case.batch_first}
        found.append(
            [
                stream_relevance(run, model, blocks, explained, **options).relevance,
                conservative_relevance(run, model, blocks, explained, **options),
            ]
        )
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)


class Fails(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("inside")


@pytest.mark.parametrize("fails", [False, True])
def test_the_model_is_left_as_it_was_found(fails: bool) -> None:
    case = case_named("timm-vit")
    model, inputs = case.model(), case.inputs()
    model.train()
    model.blocks[1].eval()
    model.blocks[2].requires_grad_(False)
    if fails:
        model.blocks[-1].mlp.drop2 = Fails()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [(each.requires_grad, each.grad) for each in model.parameters()]
    modes = [each.training for each in model.modules()]
    blocks = list(model.blocks)
    calls = [
        lambda: input_relevance(model, model, inputs, logit),
        lambda: stream_relevance(lambda: model(inputs), model, blocks, logit),
        lambda: conservative_relevance(lambda: model(inputs), model, blocks, logit),
    ]
    for call in calls:
        if fails:
            with pytest.raises(RuntimeError, match="inside"):
                call()
        else:
            with torch.no_grad():
                call()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert [(each.requires_grad, each.grad) for each in model.parameters()] == flags
    assert [each.training for each in model.modules()] == modes
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in model.modules())
    assert not torch.overrides._get_current_function_mode_stack()
    assert not inputs.requires_grad


def test_outputs_that_do_not_depend_on_the_input_are_refused() -> None:
    model = written(torch.relu)
    with pytest.raises(UnsupportedModelError, match="does not depend"):
        input_relevance(lambda x: model(x).detach(), model, signal(), lambda output: output[:, 1])
    with pytest.raises(UnsupportedModelError, match="does not depend"):
        input_relevance(torch.no_grad()(model), model, signal(), lambda output: output[:, 1])


def test_blocks_with_two_attentions_are_refused() -> None:
    case = case_named("timm-vit")
    model, inputs = case.model(), case.inputs()
    pairs = [nn.Sequential(*model.blocks[:2]), nn.Sequential(*model.blocks[2:])]
    model.blocks = nn.Sequential(*pairs)
    with pytest.raises(UnsupportedModelError, match=r"block 0 .* runs 2 attentions"):
        stream_relevance(lambda: model(inputs), model, pairs, logit)


def test_recomputed_blocks_are_refused() -> None:
    case = case_named("timm-vit")
    model, inputs = case.model(), case.inputs()
    model.set_grad_checkpointing()
    with pytest.raises(UnsupportedModelError, match="checkpointing"):
        input_relevance(model, model, inputs, logit)


def test_relevance_that_is_not_finite_is_an_error() -> None:
    model = written(torch.relu)
    with pytest.raises(ValueError, match="NaN or infinity"):
        explain(model, signal() * torch.nan)


def test_half_precision_is_refused_where_divisions_would_make_other_maps_of_it() -> None:
    case = case_named("timm-vit")
    model, images = case.model(torch.bfloat16), case.inputs(torch.bfloat16)
    blocks = list(model.blocks)
    with pytest.raises(ValueError, match=r"model\.float"):
        input_relevance(model, model, images, logit)
    with pytest.raises(ValueError, match=r"model\.float"):
        stream_relevance(lambda: model(images), model, blocks, logit)
    half = conservative_relevance(lambda: model(images), model, blocks, logit)
    model, images = case.model(), case.inputs()
    exact = conservative_relevance(lambda: model(images), model, list(model.blocks), logit)
    assert half.dtype == torch.float32
    assert F.cosine_similarity(exact, half, dim=1).min() > 0.99


def test_autocast_does_not_bring_half_precision_back() -> None:
    case = case_named("timm-vit")
    model, images = case.model(), case.inputs()
    expected = input_relevance(model, model, images, logit)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(input_relevance(model, model, images, logit), expected)
