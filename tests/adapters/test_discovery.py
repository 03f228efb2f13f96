"""Blocks found by watching a run, or named by the caller."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_ultra import LatentTokenAttribution, UnsupportedModelError
from captum_ultra.adapters import resolve
from tests.attr.models import text
from tests.builders import CASES, Case, case_named, stir
from tests.builders.torch_models import PlainBlock, PlainTransformer

IDS = torch.arange(3, 21).view(2, 9)


def plain(fused: bool = True) -> PlainTransformer:
    torch.manual_seed(0)
    return stir(PlainTransformer(fused)).eval()  # type: ignore[return-value]


# The kind of attention plays no part.
TWINS = {case.name.replace("-sdpa", "-eager") for case in CASES if case.name.endswith("-sdpa")}


@pytest.mark.parametrize("case", [case for case in CASES if case.name not in TWINS], ids=lambda case: case.name)
def test_every_model_shows_its_blocks(case: Case) -> None:
    """The view is of the model's own blocks, in their order, and knows which axis is the batch."""
    model = case.model()
    view = resolve(model, case.inputs())
    assert list(view.blocks) == list(model.get_submodule(case.blocks).children())
    assert len(view.blocks) == case.depth
    assert view.batch_first is case.batch_first


@pytest.mark.parametrize("fused", [True, False])
def test_a_model_that_nobody_knows(fused: bool) -> None:
    model = plain(fused)
    view = resolve(model, IDS)
    assert view.discovered
    assert list(view.blocks) == list(model.steps)


def test_blocks_given_by_the_caller() -> None:
    model, clip = plain(), case_named("open_clip-clip-text")
    given: list[Any] = [(model, each) for each in ("steps", ["steps.0", "steps.1", "steps.2"], list(model.steps))]
    for named, blocks in [*given, (clip.model(), clip.blocks)]:
        found = LatentTokenAttribution(named).attribute(IDS, token="all")
        assert torch.equal(LatentTokenAttribution(named, blocks=blocks).attribute(IDS, token="all"), found)


def test_a_part_of_the_blocks() -> None:
    """From the second block on: its input plays the embedding, and layer 1 is one block later."""
    model = plain()
    lta = LatentTokenAttribution(model, blocks=["steps.1", "steps.2"])
    with torch.no_grad():
        middle = model.steps[0](model.embed(IDS))

    class Rest(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = model.steps[1:]

        def forward(self, x: Tensor) -> Tensor:
            for step in self.steps:
                x = step(x)
            return x

    expected = LatentTokenAttribution(Rest()).attribute(middle, token="all", layer=2)
    torch.testing.assert_close(lta.attribute(IDS, token="all", layer=2), expected)
    with pytest.raises(ValueError, match="with 2 blocks"):
        lta.attribute(IDS, layer=3)


class TwoTowers(nn.Module):
    """Two chains of the same length: which one is meant is the caller's to say."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = PlainTransformer(fused=True), PlainTransformer(fused=True)

    def forward(self, ids: Tensor) -> Tensor:
        return self.first(ids) + self.second(ids)


def test_two_chains_of_the_same_length_are_the_callers_to_choose() -> None:
    model = TwoTowers().eval()
    with pytest.raises(UnsupportedModelError, match=r"first\.steps, second\.steps.*blocks='first\.steps'"):
        LatentTokenAttribution(model).attribute(IDS)
    chosen = LatentTokenAttribution(model, blocks="second.steps").attribute(IDS, token="all")
    assert torch.equal(chosen, LatentTokenAttribution(model.second).attribute(IDS, token="all"))


def test_blocks_without_a_container() -> None:
    class Loose(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 32)
            self.one, self.two = PlainBlock(fused=True), PlainBlock(fused=True)

        def forward(self, ids: Tensor) -> Tensor:
            return self.two(self.one(self.embed(ids)))

    model = Loose().eval()
    with pytest.raises(UnsupportedModelError, match=r"ran 2 attentions.*blocks=\[\.\.\.\]"):
        LatentTokenAttribution(model).attribute(IDS)
    assert LatentTokenAttribution(model, blocks=["one", "two"]).attribute(IDS).shape == IDS.shape


@pytest.mark.parametrize(
    "blocks, message",
    [
        ("stepz", r"no module 'stepz'; containers: .*steps"),
        ("head", "names a module without children"),
        ([], "nothing given"),
        ([nn.Linear(2, 2)], r"not among them: \['Linear'\]"),
        (["steps.0", "steps.9"], r"no module 'steps\.9'"),
    ],
)
def test_blocks_that_do_not_exist(blocks: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LatentTokenAttribution(plain(), blocks=blocks).attribute(IDS)


def test_blocks_that_the_input_does_not_pass() -> None:
    """The text blocks of a two-tower model, given an image."""
    case = case_named("hf-CLIPModel-image")
    lta = LatentTokenAttribution(case.model(), blocks="text_model.encoder.layers")
    with pytest.raises(UnsupportedModelError, match=r"none of the 3 blocks.*blocks=\[\.\.\.\]"):
        lta.attribute(case.inputs())


def test_blocks_out_of_order_and_blocks_within_blocks() -> None:
    model = plain()
    with pytest.raises(UnsupportedModelError, match="out of order"):
        LatentTokenAttribution(model, blocks=["steps.1", "steps.0"]).attribute(IDS)
    wrapped = nn.Sequential(model.embed, nn.Sequential(*model.steps))
    with pytest.raises(UnsupportedModelError, match=r"nested blocks|out of order"):
        LatentTokenAttribution(wrapped, blocks=["1", "1.0"]).attribute(IDS)


class TokensFirst(nn.Module):
    """Carries [N, B, d] between blocks that swap the axes for themselves."""

    class Block(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x.transpose(0, 1)).transpose(0, 1)

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(self.Block(block) for block in text().blocks)

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(0, 1)
        for block in self.blocks:
            x = block(x)
        return x.transpose(0, 1)


def test_a_stream_with_the_tokens_first_is_refused() -> None:
    with pytest.raises(UnsupportedModelError, match="the batch comes first"):
        LatentTokenAttribution(TokensFirst()).attribute(torch.randn(2, 6, 16))
