"""From what a model returns to one score a class."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from captum_ultra.adapters.view import library_of
from captum_ultra.errors import UnsupportedModelError

__all__ = ["Head", "check_head", "class_scores"]

Head = Callable[[Any], Tensor] | Tensor

_REMEDY = (
    "load the model with its classification head, or give one: head=callable (of what the model returns -> [B, K]), or "
    "head=embeddings [K, d] of the classes (zero-shot), which text_head(model, tokenizer, prompts) makes of texts "
    "with a model of images and texts (on the command line: --prompt)"
)


def check_head(head: Any) -> None:
    """Raise unless ``head`` is None, a callable, or class embeddings [K, d]."""
    if head is None or (callable(head) and not isinstance(head, Tensor)):
        return
    if not isinstance(head, Tensor):
        raise TypeError(f"head must be a callable, class embeddings [K, d], or None, got {type(head).__name__}")
    if head.dim() != 2 or not head.is_floating_point():
        raise ValueError(f"head: class embeddings are [K, d], floating point; got {head.dtype} {list(head.shape)}")


def class_scores(model: nn.Module, output: Any, head: Head | None = None) -> Tensor:
    """One score a class [B, K], out of what a model returned.

    Args:
        model: that was asked for an explanation; of a two-tower model the whole one.
        output: what it (or its tower) returned.
        head: a callable of ``output``, or class embeddings [K, d] that are compared with the model's embedding
            by cosine, times the model's own ``logit_scale`` if it has one.

    Raises:
        UnsupportedModelError: for models without a classification head, language models, regressions.
        ValueError: if the head does not fit.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> class_scores(nn.Linear(2, 3), torch.zeros(1, 3)).shape
        torch.Size([1, 3])
    """
    name = type(model).__name__
    if isinstance(head, Tensor):
        scores = _zero_shot(model, _embedding(model, output), head)
    elif head is not None:
        scores = head(output)
    else:
        scores = _own_scores(model, output)
    if not isinstance(scores, Tensor) or scores.dim() != 2:
        got = f"a tensor of shape {list(scores.shape)}" if isinstance(scores, Tensor) else type(scores).__name__
        raise UnsupportedModelError(f"{name} gives {got} where one score a class [B, K] is needed; {_REMEDY}")
    if scores.shape[1] == 1 and not isinstance(head, Tensor):  # the cosine with one text can be explained
        logit = "output.logits" if isinstance(getattr(output, "logits", None), Tensor) else "output"
        raise UnsupportedModelError(
            f"{name} gives one number a sample, a regression or a single logit, in which no class can be chosen; give "
            f"head=lambda output: torch.cat([-{logit}, {logit}], 1) for two classes, or explain a latent token: "
            "LatentTokenAttribution"
        )
    return scores


def _own_scores(model: nn.Module, output: Any) -> Tensor:
    name, libraries = type(model).__name__, library_of(model)
    config = getattr(model, "config", None)
    if getattr(config, "problem_type", None) == "regression":
        raise UnsupportedModelError(f"{name} is configured for regression, which has no classes; {_REMEDY}")
    logits = getattr(output, "logits", None)
    if isinstance(logits, Tensor):
        if logits.dim() == 3:
            raise UnsupportedModelError(
                f"{name} gives a score for every token, {list(logits.shape)}; explain a sequence classifier, or the "
                "tokens of a language model with TokenContribution"
            )
        return logits
    headless = "open_clip" in libraries or ("timm" in libraries and getattr(model, "num_classes", None) == 0)
    if headless or hasattr(output, "last_hidden_state"):
        raise UnsupportedModelError(
            f"{name} returns features, not class scores: it has no classification head; {_REMEDY}"
        )
    return output[0] if isinstance(output, tuple) and output and isinstance(output[0], Tensor) else output


def _embedding(model: nn.Module, output: Any) -> Tensor:
    """The embedding [B, d] that class embeddings are compared with."""
    if isinstance(output, Tensor):
        return output
    for name in ("image_embeds", "pooler_output"):
        found = getattr(output, name, None)
        if isinstance(found, Tensor):
            projection = getattr(model, "visual_projection", None) if name == "pooler_output" else None
            return found if projection is None else projection(found)
    if isinstance(output, tuple) and output and isinstance(output[0], Tensor):
        return output[0]
    raise UnsupportedModelError(
        f"{type(model).__name__} returns {type(output).__name__}, in which no embedding was found; give head=callable"
    )


def _zero_shot(model: nn.Module, embedding: Tensor, classes: Tensor) -> Tensor:
    if embedding.dim() != 2 or embedding.shape[1] != classes.shape[1]:
        raise ValueError(
            f"head: class embeddings {list(classes.shape)} do not fit the model's embedding {list(embedding.shape)}; "
            "take both from one model, with its projections"
        )
    cosines = F.normalize(embedding, dim=-1) @ F.normalize(classes.detach().to(embedding), dim=-1).T
    scale = getattr(model, "logit_scale", None)
    return cosines if scale is None else scale.detach().exp() * cosines
