"""Inputs that a model changes, needs more of, or reads by another of its parts."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_ultra import LatentTokenAttribution, TokenContribution, UnsupportedModelError
from captum_ultra.adapters import transformers
from tests.attr.text_models import llama, word_level
from tests.builders import case_named
from tests.builders.torch_models import PlainTransformer

IDS = torch.randint(3, 50, (2, 9), generator=torch.Generator().manual_seed(0))


class Prompted(PlainTransformer):
    """Virtual tokens before the text, as prompt tuning has them."""

    def __init__(self) -> None:
        super().__init__(fused=True)
        self.virtual = nn.Parameter(torch.randn(1, 3, 32))

    def forward(self, input_ids: Tensor) -> Tensor:
        x = torch.cat([self.virtual.expand(len(input_ids), -1, -1), self.embed(input_ids)], 1)
        for step in self.steps:
            x = step(x)
        return self.head(x)


def test_tokens_beside_those_of_the_text() -> None:
    torch.manual_seed(0)
    model = Prompted().eval()
    with pytest.warns(UserWarning, match="makes 12 tokens of 9 ids"):
        rows = LatentTokenAttribution(model).attribute(IDS, token=5, score="energy")
    assert rows.shape == (2, 12) and (rows[:, :6] > 0).all() and not rows[:, 6:].any()
    with pytest.raises(UnsupportedModelError, match=r"more tokens than there are ids.*LatentTokenAttribution"):
        TokenContribution(model, word_level()).attribute("the cat", " sat")


def test_texts_without_the_probe() -> None:
    with_probe, without = (TokenContribution(llama(), word_level(), probe=probe) for probe in (True, False))
    expected: Any = with_probe.attribute("the cat", " sat")
    found: Any = without.attribute("the cat", " sat")
    torch.testing.assert_close(found.matrix, expected.matrix)


def test_blocks_of_another_part_of_the_model() -> None:
    class Beside(Prompted):
        """The blocks run on the virtual tokens alone."""

        def forward(self, input_ids: Tensor) -> Tensor:
            words, x = self.embed(input_ids), self.virtual.expand(len(input_ids), -1, -1)
            for step in self.steps:
                x = step(x)
            return self.head(x.mean(1, keepdim=True) + words)

    with pytest.raises(UnsupportedModelError, match="does not depend on the input; they belong to another part"):
        LatentTokenAttribution(Beside().eval(), blocks="steps").attribute(IDS)


def test_a_model_that_packs_its_samples() -> None:
    class Packed(PlainTransformer):
        def forward(self, ids: Tensor) -> Tensor:
            x = self.embed(ids).flatten(0, 1)[None]
            for step in self.steps:
                x = step(x)
            return self.head(x)

    lta = LatentTokenAttribution(Packed(fused=True).eval(), blocks="steps")
    with pytest.raises(UnsupportedModelError, match="packs its samples into one sequence: explain one sample"):
        lta.attribute(IDS)
    assert lta.attribute(IDS[:1]).shape == (1, 9)  # as the message says


class Wrapper(nn.Module):
    """Hands on whatever it gets, as models with adapters do."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def get_base_model(self) -> nn.Module:
        return self.model

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.model(*args, **kwargs)


def test_wrappers_that_name_no_arguments_take_those_of_what_they_wrap() -> None:
    model, mask = llama(), torch.ones_like(IDS)
    mask[1, :4] = 0
    with torch.no_grad():
        found = transformers.call(Wrapper(model), IDS, mask).logits
        assert torch.equal(found, model(input_ids=IDS, attention_mask=mask).logits)


def test_an_input_that_is_lacking_is_named_before_anything_runs() -> None:
    from transformers import Blip2Config, Blip2Model

    small = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 32}
    config = Blip2Config(
        vision_config={**small, "image_size": 32, "patch_size": 8}, qformer_config={**small, "vocab_size": 50},
        text_config={"model_type": "opt", **small, "ffn_dim": 32, "vocab_size": 50, "word_embed_proj_dim": 32},
    )  # fmt: skip
    model, images = Blip2Model(config).eval(), torch.randn(1, 3, 32, 32)
    with pytest.raises(ValueError, match=r"Blip2Model needs input_ids beside its input.*additional_forward_args="):
        LatentTokenAttribution(model).attribute(images)
    assert LatentTokenAttribution(model.vision_model).attribute(images, token=(1, 2)).shape == (1, 1, 32, 32)


def test_a_tower_without_a_known_list_of_blocks_is_searched_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    case = case_named("hf-CLIPModel-image")
    model, images = case.model(), case.inputs()
    expected = LatentTokenAttribution(model).attribute(images, token=3, output="tokens")
    monkeypatch.setattr(transformers, "_BLOCK_PATHS", ())
    assert torch.equal(LatentTokenAttribution(model).attribute(images, token=3, output="tokens"), expected)
