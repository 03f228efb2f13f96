"""Classes out of prompts: the embeddings by which a model of images and texts (CLIP, SigLIP) knows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra.adapters.text import input_device, longest_text
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance import explaining

__all__ = ["check_prompts", "text_head"]


def text_head(model: nn.Module, tokenizer: Any, prompts: Sequence[str], *, template: str = "{}") -> Tensor:
    """Embeddings of prompts, for ``head=`` of every method: class k is then what prompt k says.

    Args:
        model: of two towers whose embeddings are compared by cosine: a model of open_clip, or one of transformers
            with ``get_text_features`` (CLIP, SigLIP, ...).
        tokenizer: the model's own: ``open_clip.get_tokenizer(name)``, or a tokenizer or processor of transformers.
        prompts: one a class.
        template: what every prompt is put into, in the place of ``{}``, e.g. ``"a photo of {}."``

    Returns:
        [K, d], of length 1 each, on the model's device.

    Raises:
        TypeError, ValueError: for arguments; for a prompt that is too long for the model.
        UnsupportedModelError: for a model that gives no embeddings of texts.

    Example:
        >>> from captum_ultra.models.torchvision_shim import ensure_torchvision_imports
        >>> _ = ensure_torchvision_imports()
        >>> import open_clip
        >>> vision = {"image_size": 32, "patch_size": 8, "width": 64, "layers": 2, "head_width": 16}
        >>> text = {"width": 32, "heads": 2, "layers": 2}
        >>> clip = open_clip.CLIP(32, vision, text)
        >>> text_head(clip, open_clip.SimpleTokenizer(), ["a cat", "a dog"]).shape
        torch.Size([2, 32])
    """
    texts = check_prompts(prompts, template)
    if not callable(tokenizer):
        raise TypeError(f"tokenizer must be the model's own tokenizer, got {type(tokenizer).__name__}")
    embed = _embed_transformers if hasattr(model, "get_text_features") else _embed_open_clip
    if not hasattr(model, "get_text_features") and not hasattr(model, "encode_text"):
        raise UnsupportedModelError(
            f"{type(model).__name__} gives no embeddings of texts (neither encode_text nor get_text_features); give "
            "the whole model of both towers, not the tower of images alone"
        )
    with explaining(model, gradients=False):
        found = embed(model, tokenizer, texts)
        if not isinstance(found, Tensor) or found.dim() != 2 or len(found) != len(texts):
            got = f"shape {list(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise UnsupportedModelError(
                f"{type(model).__name__} gives {got} for {len(texts)} texts, where one embedding each [K, d] is needed"
            )
        return F.normalize(found, dim=-1)


def check_prompts(prompts: Sequence[str], template: str = "{}") -> list[str]:
    """The prompts in their template, as far as they can be checked without a model.

    Raises:
        TypeError, ValueError: for a single string, none, a blank one, or a template without a place.
    """
    if isinstance(prompts, str):
        raise TypeError(f"prompts: give a list with one text a class, such as [{prompts!r}]")
    if "{}" not in template:
        raise ValueError(f"template={template!r} has no {{}} where the prompt goes, as 'a photo of {{}}.' has")
    texts = list(prompts)
    for text in texts:
        if not isinstance(text, str) or not text.strip():
            raise ValueError(f"prompts: {text!r} is no text; give one text a class")
    if not texts:
        raise ValueError("prompts: none were given; give one text a class")
    return [template.replace("{}", text) for text in texts]


def _embed_open_clip(model: Any, tokenizer: Any, texts: list[str]) -> Any:
    ids = tokenizer(texts)
    # These tokenizers cut in silence: where a further word changes nothing, something was cut, or would be next.
    longer = tokenizer([f"{text} more" for text in texts])
    for text, one, other in zip(texts, ids, longer, strict=True):
        if torch.equal(one, other):
            raise ValueError(_too_long(text, f"fills the {len(one)} tokens that the model reads"))
    return model.encode_text(ids.to(input_device(model)))


def _embed_transformers(model: Any, tokenizer: Any, texts: list[str]) -> Any:
    reader = getattr(tokenizer, "tokenizer", tokenizer)  # of a processor
    most = longest_text(model)
    for text, ids in zip(texts, reader(texts)["input_ids"], strict=True):
        if most is not None and len(ids) > most:
            raise ValueError(_too_long(text, f"has {len(ids)} tokens, and the model reads {most}"))
    if model.config.model_type.startswith("siglip"):
        # Trained on texts padded to their full length, and read at the last place, without a mask.
        given = {"input_ids": reader(texts, padding="max_length", max_length=most, return_tensors="pt")["input_ids"]}
    else:
        given = dict(reader(texts, padding=True, return_tensors="pt"))
    found = model.get_text_features(**{name: value.to(input_device(model)) for name, value in given.items()})
    return found if isinstance(found, Tensor) else getattr(found, "pooler_output", found)


def _too_long(text: str, why: str) -> str:
    return f"prompts: {text!r} {why}; shorten it"
