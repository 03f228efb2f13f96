"""Scores over the tokens of a document, one row for every target token, by ULTra and what it is held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from captum.attr import InputXGradient
from torch import Tensor, nn

from captum_ultra import LatentTokenAttribution
from captum_ultra.data.facts import Document, Span
from captum_ultra.experiments.rows import Record, raw_rows, rollout_rows

__all__ = ["Encoded", "Question", "encode", "gradient_scores", "latent_rows", "match_scores"]


@dataclass(frozen=True)
class Question:
    """Which tokens of a summary are explained, and what should be found.

    Attributes:
        name: "summary", or "copied" or "derived" for the content of one claim.
        tokens: positions of the explained tokens.
        content: positions of the names, colours and values among them.
        evidence: bool [C], over the tokens of the context.
    """

    name: str
    tokens: list[int]
    content: list[int]
    evidence: Tensor


@dataclass(frozen=True)
class Encoded:
    """A document as a model reads it: ids [1, N], where its context lies, what is asked of it."""

    ids: Tensor
    context: slice
    questions: list[Question]


def encode(tokenizer: Any, document: Document) -> Encoded:
    """Token ids of a document, and its spans as token positions.

    The first question is the whole summary, with the evidence of all claims; then comes, for every claim,
    the words that state its fact (name, colour, value), with the evidence of that claim.

    Raises:
        ValueError: if the tokenizer does not keep a word of a fact in one token.
    """
    batch = tokenizer(document.text, return_offsets_mapping=True, return_tensors="pt")
    offsets = [tuple(pair) for pair in batch["offset_mapping"][0].tolist()]
    inside = [place for place, (start, end) in enumerate(offsets) if start < end <= len(document.context)]
    context = slice(inside[0], inside[-1] + 1)
    summary = [place for place, (start, _) in enumerate(offsets) if start >= document.summary_start]

    def places(spans: Sequence[Span], shift: int = 0) -> list[int]:
        wanted = [(span.start + shift, span.end + shift) for span in spans]
        for pair in wanted:
            if pair not in offsets:
                raise ValueError(f"{document.text[slice(*pair)]!r} is not one token of this tokenizer; it must be")
        return [offsets.index(pair) for pair in wanted]

    questions, everything, content = [], torch.zeros(len(inside), dtype=torch.bool), []
    for claim in document.claims:
        evidence = torch.zeros_like(everything)
        evidence[torch.tensor(places(claim.evidence)) - context.start] = True
        everything |= evidence
        words = places(claim.content, document.summary_start)
        content += words
        questions.append(Question(claim.form, words, words, evidence))
    return Encoded(batch["input_ids"], context, [Question("summary", summary, content, everything), *questions])


def latent_rows(model: nn.Module, ids: Tensor, tokens: list[int]) -> Iterator[tuple[str, int, Tensor]]:
    """Rows [T, N] of the latents of the tokens, with the method's name and the layer, 1 to the last."""
    explain = LatentTokenAttribution(model)
    run = Record([], attention_maps(model, ids))
    places = torch.tensor(tokens)
    for layer in range(1, len(run.attentions) + 1):
        for name, score in (("ULTra_S", "sum"), ("ULTra_E", "energy")):
            yield name, layer, explain.attribute(ids, token=tokens, layer=layer, score=score, self_token="keep")[0]
        yield "raw attention", layer, raw_rows(run, places, layer)
        yield "rollout", layer, rollout_rows(run, places, layer)


def gradient_scores(model: Any, ids: Tensor, tokens: list[int]) -> Tensor:
    """|gradient x input| summed over the embedding, of the log-probability of the tokens given all before: [N]."""
    places = torch.tensor(tokens)

    def log_probability(embeddings: Tensor) -> Tensor:
        logits = model(inputs_embeds=embeddings, use_cache=False).logits[:, places - 1]
        chosen = ids[:, places].expand(len(logits), -1)[..., None]
        return logits.log_softmax(-1).gather(-1, chosen).sum((1, 2))

    embeddings = model.get_input_embeddings()(ids).detach().requires_grad_()
    return InputXGradient(log_probability).attribute(embeddings).sum(-1).abs()[0].detach()


def match_scores(ids: Tensor, content: list[int]) -> Tensor:
    """1 for the tokens that the content of the claim repeats, else 0: [N]."""
    return torch.isin(ids[0], ids[0, content]).float()


def attention_maps(model: nn.Module, ids: Tensor) -> list[Tensor]:
    """Post-softmax attention of every block, mean over heads: each [N, N]."""
    with eager(model), torch.no_grad():
        found = model(ids, output_attentions=True, use_cache=False).attentions
    return [attention[0].mean(0) for attention in found]


@contextmanager
def eager(model: Any) -> Iterator[None]:
    """A transformers model under eager attention, which alone returns its maps; as it was afterwards."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
