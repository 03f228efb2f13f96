"""Text as it comes: padded on either side, masked by name or by position, given as embeddings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import captum_ultra
from captum_ultra import LatentTokenAttribution, LeGrad
from tests.builders import Case, case_named, only_families
from tests.builders.case import CHANNELS
from tests.builders.transformers_models import CAUSAL, TEXT
from tests.reference.ultra import explain

PADDING = 3


def padded_mask(ids: Tensor, side: str) -> Tensor:
    """The first sample is whole, the second has ``PADDING`` tokens of padding."""
    mask = torch.ones_like(ids)
    mask[1, slice(0, PADDING) if side == "left" else slice(-PADDING, None)] = 0
    return mask


def assert_rows_close(row: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(row, expected, rtol=0, atol=1e-5 * expected.max().item())


@pytest.mark.parametrize("case", only_families(TEXT), ids=lambda case: case.name)
def test_padded_batches_equal_the_loop(case: Case) -> None:
    model, ids = case.model(), case.inputs()
    for side, token in (("left", case.tokens - 1), ("right", case.tokens - 1 - PADDING)):
        mask = padded_mask(ids, side)
        masked = replace(case, call=lambda model, inputs: model(input_ids=inputs, attention_mask=mask))  # noqa: B023
        recording = masked.record(model, ids)
        for score in ("sum", "energy"):
            row = LatentTokenAttribution(model).attribute(
                ids, token=token, score=score, self_token="zero", additional_forward_args=(mask,)
            )
            assert_rows_close(row, explain(recording, token, case.depth, score, self_token="zero"))
            assert (row[mask == 0] == 0).all(), "a padded token holds relevance"


class Encoder(nn.Module):
    """torch's encoder, whose mask says True where a token is padding."""

    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(CHANNELS, 4, 64, batch_first=True, norm_first=True)
        self.embed = nn.Embedding(20, CHANNELS)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)

    def forward(self, ids: Tensor, padding: Tensor | None = None) -> Tensor:
        return self.encoder(self.embed(ids), src_key_padding_mask=padding)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("method", ["LatentTokenAttribution", "LeGrad", "AttCAT", "AttentionGradCam"])
def test_masks_that_say_where_padding_is(method: str, side: str) -> None:
    torch.manual_seed(0)
    model, ids = Encoder().double().eval(), torch.randint(20, (2, 9))
    padding = padded_mask(ids, side) == 0
    explain_by = getattr(captum_ultra, method)(model)
    options = {"token": -2, "score": torch.linspace(-1, 1, CHANNELS), "self_token": "zero"}
    batch = explain_by.attribute(ids, additional_forward_args={"padding": padding}, **options)
    alone = explain_by.attribute(ids[1:, ~padding[1]], **options)
    torch.testing.assert_close(batch[1:, ~padding[1]], alone, rtol=1e-9, atol=1e-9)
    assert batch[1, padding[1]].abs().max() < 1e-9


def test_padding_that_a_model_finds_by_itself() -> None:
    class FromIds(Encoder):
        def forward(self, ids: Tensor, padding: Tensor | None = None) -> Tensor:
            return super().forward(ids, ids == 0)

    torch.manual_seed(0)
    lta, ids = LatentTokenAttribution(FromIds().eval()), torch.randint(1, 20, (2, 9))
    ids[1, -PADDING:] = 0
    torch.testing.assert_close(lta.attribute(ids, token=-1), lta.attribute(ids, target=[8, 8 - PADDING]))


@pytest.mark.parametrize("name", ["hf-BertModel-sdpa", "hf-GPT2LMHeadModel-sdpa", "hf-LlamaForCausalLM-eager"])
def test_negative_tokens_count_from_the_last_that_is_no_padding(name: str) -> None:
    case = case_named(name)
    lta, ids = LatentTokenAttribution(case.model()), case.inputs()
    for side, last in (("right", case.tokens - 1 - PADDING), ("left", case.tokens - 1)):
        masked: dict[str, Any] = {"additional_forward_args": padded_mask(ids, side), "score": "energy"}
        rows = lta.attribute(ids, token=-1, **masked)
        torch.testing.assert_close(rows, lta.attribute(ids, target=[case.tokens - 1, last], **masked))
    with pytest.warns(UserWarning, match=f"token {case.tokens - 1} of sample 1 is padding"):
        lta.attribute(ids, token=case.tokens - 1, additional_forward_args=padded_mask(ids, "right"))
    with pytest.raises(ValueError, match=f"a sample of the batch has {case.tokens - PADDING} tokens"):
        lta.attribute(ids, token=-case.tokens, additional_forward_args=padded_mask(ids, "right"))


@pytest.mark.parametrize("method", ["LatentTokenAttribution", "LeGrad", "AttentionGradCam", "AttCAT", "ResidualLRP"])
@pytest.mark.parametrize("name", ["hf-BertModel-sdpa", "hf-BertModel-eager", "hf-GPT2LMHeadModel-sdpa"])
def test_padding_changes_nothing(name: str, method: str) -> None:
    """A text explained in a padded batch equals the same text explained alone."""
    case = case_named(name)
    explain_by, ids = getattr(captum_ultra, method)(case.model(torch.float64)), case.inputs()
    options = {"token": 4, "score": torch.linspace(-1, 1, CHANNELS), "self_token": "zero"}
    batch = explain_by.attribute(ids, additional_forward_args=padded_mask(ids, "right"), **options)
    alone = explain_by.attribute(ids[1:, :-PADDING], **options)
    torch.testing.assert_close(batch[1:, :-PADDING], alone, rtol=1e-9, atol=1e-9)
    assert batch[1, -PADDING:].abs().max() < 1e-9


def test_right_padding_of_a_causal_model_needs_no_mask() -> None:
    """What the padding holds does not matter either: no token looks to its right."""
    case = case_named("hf-LlamaForCausalLM-sdpa")
    lta, ids = LatentTokenAttribution(case.model()), case.inputs()
    mask, targets = padded_mask(ids, "right"), torch.tensor([case.tokens - 1, case.tokens - 1 - PADDING])
    masked = lta.attribute(ids, target=targets, additional_forward_args=mask)
    for unmasked in (lta.attribute(ids, target=targets), lta.attribute(ids.where(mask.bool(), 3), target=targets)):
        torch.testing.assert_close(unmasked, masked, rtol=1e-5, atol=1e-6)
        assert (unmasked[mask == 0] == 0).all()


@pytest.mark.parametrize("name", ["hf-BertModel-sdpa", "hf-LlamaForCausalLM-eager"])
def test_masks_by_name_and_by_position_are_the_same(name: str) -> None:
    case = case_named(name)
    ids = case.inputs()
    mask = padded_mask(ids, "right")
    lta = LatentTokenAttribution(case.model())
    by_position = lta.attribute(ids, token="all", additional_forward_args=(mask,))
    assert torch.equal(by_position, lta.attribute(ids, token="all", additional_forward_args=mask))
    by_name = lta.attribute(ids, token="all", additional_forward_args={"attention_mask": mask})
    assert torch.equal(by_position, by_name)
    assert not torch.equal(by_position, lta.attribute(ids, token="all"))


def test_other_arguments_by_position_are_refused_with_the_names_that_exist() -> None:
    case = case_named("hf-LlamaForCausalLM-sdpa")
    with pytest.raises(ValueError, match=r"attention mask of shape \[2, 9\].*dict.*position_ids"):
        LatentTokenAttribution(case.model()).attribute(
            case.inputs(), additional_forward_args=(None, torch.arange(9)[None])
        )


def test_embeddings_in_place_of_ids() -> None:
    case = case_named("hf-LlamaForCausalLM-sdpa")
    model: Any = case.model()
    ids = case.inputs()
    embeddings = model.get_input_embeddings()(ids)
    lta = LatentTokenAttribution(model)
    assert torch.equal(lta.attribute(embeddings, token="all"), lta.attribute(ids, token="all"))


def test_a_sliding_window_shorter_than_the_text() -> None:
    """One block sees the window and not beyond; three blocks reach three windows back."""
    case = case_named("hf-MistralForCausalLM-sdpa")
    lta, ids, last = LatentTokenAttribution(case.model()), case.inputs(), case.tokens - 1
    after_one = lta.attribute(ids, token=last, layer=1)
    window = slice(last - 3, last + 1)
    assert (after_one[:, : window.start] == 0).all()
    assert (after_one[:, window] > 0).any(dim=1).all()
    assert (lta.attribute(ids, token=last, layer=3)[:, : window.start] > 0).any()


@pytest.mark.parametrize("case", only_families(CAUSAL), ids=lambda case: case.name)
def test_causal_models_look_back_only(case: Case) -> None:
    model, ids = case.model(), case.inputs()
    for method in (LatentTokenAttribution, LeGrad):
        assert (method(model).attribute(ids, token="all", layer=case.depth).triu(1) == 0).all()


@pytest.mark.parametrize("kind", ["padding", "causal", "both"])
def test_masks_of_torch_encoders(kind: str) -> None:
    case = case_named("torch-encoder-prenorm")
    masks: dict[str, Tensor] = {}
    if kind != "causal":
        masks["src_key_padding_mask"] = torch.arange(9).expand(2, 9) > torch.tensor([[8], [6]])
    if kind != "padding":
        masks["mask"] = torch.ones(9, 9, dtype=torch.bool).triu(1)
    model, inputs = case.model(), case.inputs()
    masked = replace(case, call=lambda model, inputs: model(inputs, **masks))
    row = LatentTokenAttribution(model).attribute(
        inputs, token=5, score="sum", self_token="zero", additional_forward_args=masks
    )
    assert_rows_close(row, explain(masked.record(model, inputs), 5, case.depth, self_token="zero"))


def test_a_causal_mask_given_as_a_hint() -> None:
    """``is_causal`` beside the mask, as torch's documentation recommends."""
    case = case_named("torch-encoder-prenorm")
    model, inputs = case.model(), case.inputs()
    mask = nn.Transformer.generate_square_subsequent_mask(9)
    lta = LatentTokenAttribution(model)
    plain = lta.attribute(inputs, token="all", additional_forward_args={"mask": mask})
    hinted = lta.attribute(inputs, token="all", additional_forward_args={"mask": mask, "is_causal": True})
    torch.testing.assert_close(hinted, plain)
    assert (plain.triu(1) == 0).all()
