"""The demonstration for text: what the summary of a document of facts rests on, and what it should rest on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.attr.attribution import DEFAULT_SCORE
from captum_ultra.attr.contribution.result import Contribution
from captum_ultra.attr.contribution.token_contribution import TokenContribution
from captum_ultra.attr.methods.titles import method_title
from captum_ultra.data.facts import SEPARATOR, Document
from captum_ultra.experiments.average_precision import average_precision

__all__ = ["DocumentExplanation", "explain_document"]


@dataclass(frozen=True)
class DocumentExplanation:
    """Relevance of the tokens of a context for its summary, and which of them the summary rests on.

    Attributes:
        document: context, summary and evidence.
        contribution: the explanation.
        evidence: bool [S], over the context's tokens.
    """

    document: Document
    contribution: Contribution
    evidence: Tensor

    @property
    def title(self) -> str:
        """The method, and the score that it explains if there is one."""
        return method_title(self.contribution.method, self.contribution.score)

    @property
    def average_precision(self) -> float:
        """Of the evidence, in the ranking of the context's tokens."""
        return float(average_precision(self.contribution.scores, self.evidence))

    @property
    def chance(self) -> float:
        """About the average precision of a random ranking: the share of evidence."""
        return float(self.evidence.double().mean())


def explain_document(
    model: nn.Module,
    tokenizer: Any,
    document: Document,
    *,
    method: str = "ultra",
    layer: int = -1,
    score: str = DEFAULT_SCORE,
    position: str = "prediction",
) -> DocumentExplanation:
    """Explain the summary of a document of facts by the tokens of its context.

    Args:
        model: a causal language model.
        tokenizer: its tokenizer.
        document: see :mod:`captum_ultra.data.facts`.
        method: a name that :func:`captum_ultra.attr.methods.find_method` knows.
        layer: number of blocks passed, negative from the end.
        score: "sum" or "energy".
        position: "prediction" or "token", as in :meth:`captum_ultra.TokenContribution.attribute`.

    Example:
        >>> from captum_ultra.data import Facts
        >>> from captum_ultra.models.llama import facts_llama, facts_tokenizer
        >>> found = explain_document(facts_llama(), facts_tokenizer(), Facts(1)[0])
        >>> found.evidence.shape == found.contribution.scores.shape
        True
        >>> found.average_precision > found.chance
        True
    """
    explain = TokenContribution(model, tokenizer, method=method)
    found = explain.attribute(
        document.context, f" {document.summary}", separator=SEPARATOR, layer=layer, score=score, position=position
    )
    assert isinstance(found, Contribution)
    places = [span for claim in document.claims for span in claim.evidence]
    evidence = [any(start < span.end and span.start < end for span in places) for start, end in found.context_offsets]
    return DocumentExplanation(document, found, torch.tensor(evidence))
