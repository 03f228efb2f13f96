"""Classes out of prompts: the embeddings, scores and maps are those of the models themselves, prompt by prompt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from captum_ultra import GenericAttention, UnsupportedModelError, text_head
from captum_ultra.adapters.class_scores import class_scores
from captum_ultra.models.torchvision_shim import ensure_torchvision_imports
from tests.attr.text_models import WORDS, word_level
from tests.builders import stir
from tests.builders.transformers_models import build

ensure_torchvision_imports()

PROMPTS = ["the big red cat", "a dog"]
LENGTH, SIZE, PATCH = 9, 32, 8
_TOWER = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 48}
_PAD, _BEGIN, _END = (WORDS.index(each) for each in ("<pad>", "<s>", "</s>"))


def towers(family: str) -> Any:
    special = {"bos_token_id": _BEGIN, "eos_token_id": _END, "pad_token_id": _PAD}
    text = {**_TOWER, "vocab_size": len(WORDS), "max_position_embeddings": LENGTH, "projection_size": 32, **special}
    vision = {**_TOWER, "image_size": SIZE, "patch_size": PATCH}
    torch.manual_seed(0)
    return stir(build(family, "Model", "eager", vision_config=vision, text_config=text)).eval()


def tokenizer() -> Any:
    return word_level("<s> $A </s>", pad_token="<pad>")


class Processor:
    """Of images and texts, as those of transformers, whose first argument are the images."""

    def __init__(self) -> None:
        self.tokenizer = tokenizer()

    def __call__(self, images: Any) -> Any:
        raise AssertionError("these are no images")


def open_clip_model() -> nn.Module:
    from open_clip.model import CLIP

    torch.manual_seed(0)
    vision = {"image_size": SIZE, "patch_size": PATCH, "width": 32, "layers": 2, "head_width": 16}
    text = {"context_length": LENGTH, "vocab_size": len(WORDS), "width": 32, "heads": 2, "layers": 2}
    return stir(CLIP(16, vision, text)).eval()


def open_clip_tokenizer(texts: list[str]) -> Tensor:
    """Ids of a fixed length, cut without a word, the last token having the highest number, as open_clip wants it."""
    ids = torch.zeros(len(texts), LENGTH, dtype=torch.long)
    for row, text in enumerate(texts):
        words = [WORDS.index(word) if word in WORDS else 0 for word in text.split()][: LENGTH - 1]
        ids[row, : len(words) + 1] = torch.tensor([*words, len(WORDS) - 1])
    return ids


def one_by_one(ids_of: Callable[[list[int]], list[int]], embed: Callable[[Tensor], Tensor]) -> Tensor:
    rows = [embed(torch.tensor([ids_of([WORDS.index(word) for word in text.split()])]))[0] for text in PROMPTS]
    return torch.stack([row / row.norm() for row in rows])


@torch.no_grad()
def test_clip_of_transformers() -> None:
    model = towers("CLIP")
    found = text_head(model, tokenizer(), PROMPTS)

    def embed(ids: Tensor) -> Tensor:
        return model.text_projection(model.text_model(input_ids=ids).pooler_output)

    torch.testing.assert_close(found, one_by_one(lambda words: [_BEGIN, *words, _END], embed))
    torch.testing.assert_close(text_head(model, Processor(), PROMPTS), found)


@torch.no_grad()
def test_siglip_reads_texts_padded_to_their_full_length_without_a_mask() -> None:
    model = towers("Siglip")
    padded = one_by_one(
        lambda words: [*([_BEGIN, *words, _END] + LENGTH * [_PAD])[:LENGTH]],
        lambda ids: model.text_model(input_ids=ids).pooler_output,
    )
    torch.testing.assert_close(text_head(model, tokenizer(), PROMPTS), padded)


@torch.no_grad()
def test_open_clip() -> None:
    model: Any = open_clip_model()
    end = len(WORDS) - 1
    alone = one_by_one(lambda words: [*words, end, *[0] * (LENGTH - len(words) - 1)], model.encode_text)
    torch.testing.assert_close(text_head(model, open_clip_tokenizer, PROMPTS), alone)


@torch.no_grad()
@pytest.mark.parametrize("family", ["CLIP", "Siglip"])
def test_scores_are_the_models_own(family: str) -> None:
    model = towers(family)
    images = torch.randn(3, 3, SIZE, SIZE)
    texts = tokenizer()(PROMPTS, padding="max_length", max_length=LENGTH, return_tensors="pt")
    own = model(pixel_values=images, input_ids=texts["input_ids"], attention_mask=texts["attention_mask"])
    if family == "Siglip":
        own = model(pixel_values=images, input_ids=texts["input_ids"])
        own.logits_per_image -= model.logit_bias
    head = text_head(model, tokenizer(), PROMPTS)
    scores = class_scores(model, model.vision_model(pixel_values=images), head)
    torch.testing.assert_close(scores, own.logits_per_image)


def test_maps_of_prompts_by_an_explicit_loop() -> None:
    """GAE from the attentions that CLIP itself returns, and its own logits, one prompt at a time."""
    model, image = towers("CLIP"), torch.randn(1, 3, SIZE, SIZE)
    ids = tokenizer()(PROMPTS, padding=True, return_tensors="pt")
    expected = []
    for prompt in range(len(PROMPTS)):
        found = model(pixel_values=image, **ids, output_attentions=True)
        attentions = found.vision_model_output.attentions
        gradients = torch.autograd.grad(found.logits_per_image[0, prompt], attentions)
        relevance = torch.eye(attentions[0].shape[-1])
        for attention, gradient in zip(attentions, gradients, strict=True):
            relevance = relevance + (attention * gradient)[0].clamp(min=0).mean(0) @ relevance
        expected.append(relevance[0, 1:].detach())
    explain = GenericAttention(model, head=text_head(model, tokenizer(), PROMPTS))
    rows = explain.attribute(image, target=[[0, 1]], output="patches")
    torch.testing.assert_close(rows[0], torch.stack(expected), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(rows[0, 0], rows[0, 1], rtol=0.05, atol=0)


def test_a_template_goes_around_every_prompt() -> None:
    model = towers("CLIP")
    torch.testing.assert_close(
        text_head(model, tokenizer(), ["cat", "dog"], template="a big {} ."),
        text_head(model, tokenizer(), ["a big cat .", "a big dog ."]),
    )


def test_the_model_is_left_as_it_was() -> None:
    model = towers("CLIP").train()
    with torch.inference_mode():
        found = text_head(model, tokenizer(), PROMPTS)
    assert model.training and all(each.requires_grad for each in model.parameters())
    assert not found.is_inference() and not found.requires_grad
    torch.testing.assert_close(found, text_head(model.eval(), tokenizer(), PROMPTS))


@pytest.mark.parametrize(
    ("prompts", "named", "message"),
    [
        ("a cat", {}, r"give a list .* \['a cat'\]"),
        ([], {}, "none were given"),
        (["a cat", " "], {}, "' ' is no text"),
        ([3], {}, "3 is no text"),
        (["cat"], {"template": "a photo"}, "has no {} where the prompt goes"),
        (["a dog", "the cat sat on the mat . . ."], {}, r"'the cat .*' has 11 tokens, and the model reads 9; shorten"),
    ],
)
@pytest.mark.parametrize("family", ["CLIP", "Siglip"])
def test_bad_prompts(family: str, prompts: Any, named: dict[str, str], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        text_head(towers(family), tokenizer(), prompts, **named)


def test_what_open_clip_would_cut_is_refused() -> None:
    model = open_clip_model()
    with pytest.raises(ValueError, match=r"'the cat sat on the mat \. a dog' fills the 9 tokens .*; shorten it"):
        text_head(model, open_clip_tokenizer, ["a dog", "the cat sat on the mat . a dog"])
    text_head(model, open_clip_tokenizer, ["a dog", "the cat sat on the mat ."])  # shortened


def test_models_without_texts() -> None:
    model = towers("CLIP")
    with pytest.raises(UnsupportedModelError, match="give the whole model of both towers"):
        text_head(model.vision_model, tokenizer(), PROMPTS)
    with pytest.raises(TypeError, match="model's own tokenizer, got NoneType"):
        text_head(model, None, PROMPTS)
