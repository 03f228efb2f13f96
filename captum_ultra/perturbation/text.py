"""Comprehensiveness and sufficiency of the scores of context tokens, for causal language models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from captum_ultra.adapters.text import longest_text, vocabulary_size
from captum_ultra.attr.inputs import check_batch_size
from captum_ultra.perturbation.text_control import check_control, random_orders, summarise_control
from captum_ultra.perturbation.text_document import Document, ExplainedText, Scores, check_document
from captum_ultra.perturbation.text_likelihood import LanguageModel
from captum_ultra.perturbation.text_removal import check_remainder, erase, replacement_id, top_counts
from captum_ultra.perturbation.text_result import FaithfulnessCurve
from captum_ultra.relevance import explaining

__all__ = ["comprehensiveness", "sufficiency"]

PERCENTAGES = (1, 5, 10, 20, 50)
_MEASURES: dict[str, Callable[[Tensor], Tensor]] = {
    "log_probability": lambda log_probabilities: log_probabilities.mean(-1),
    "probability": lambda log_probabilities: log_probabilities.exp().mean(-1),
}


def comprehensiveness(
    model: nn.Module, text: ExplainedText, *, scores: Scores | None = None, k: Sequence[float] = PERCENTAGES,
    measure: str = "log_probability", replacement: int | str | None = None, tokenizer: Any = None,
    random_orders: int = 20, confidence: float = 0.95, seed: int | torch.Generator = 0,
    internal_batch_size: int | None = None, show_progress: bool = False,
) -> FaithfulnessCurve:  # fmt: skip
    """What the model loses with the tokens that an explanation ranks highest: m(x) - m(x without the top k %).

    Higher is better: tokens that matter are missed. m is the mean log-probability of the target
    tokens, each given everything before it. The top k % of S context tokens are ceil(k S / 100)
    tokens, so at least one; of equal scores the earlier token goes first. What stands outside the
    context (BOS, separator, summary) stays.

    Every result holds the same measurement for random orders of the tokens: deleting tokens harms a
    text whichever they are, and only what goes beyond that speaks for the explanation.

    The model runs in evaluation mode without gradients and is left as it was found.

    Args:
        model: a causal language model that returns logits: of transformers with its head, a
            TransformerLens bridge, or any module from ids [B, L] to logits [B, L, vocabulary].
        text: its ``input_ids`` [N], ``source_positions`` [S], ``target_positions`` [T] and
            ``scores`` [S]: what token attribution returns, or a :class:`TokenScores`.
        scores: in place of the text's own: [S], or several to be compared on one control: [M, S],
            a sequence of [S], or a mapping of names to [S].
        k: percentages of the context tokens, increasing, above 0 and up to 100.
        measure: "log_probability" (nats, mean over the targets) or "probability" (mean over the
            targets of the probability of each).
        replacement: None deletes the tokens and closes the gaps; a token id, or the name of a token,
            takes their place, and positions stay.
        tokenizer: looks up the name given as ``replacement``.
        random_orders: R, number of random orders of the control, at least 2.
        confidence: of the interval of the control's mean (percentile bootstrap over the orders).
        seed: of the random orders: an int, or a CPU generator.
        internal_batch_size: versions of the text run at once; None for as many as fit 8,192 tokens
            and 2^26 logits, and at least one.
        show_progress: show a progress bar.

    Returns:
        Curves over k, [K] for one score vector and [M, K] for several, with their mean and control.

    Raises:
        ValueError: for shapes, positions, scores, percentages or a replacement that cannot be used,
            before the model runs; and if the model gives a target no finite log-probability.
        TypeError: if the model is no module, or the seed or the replacement has a wrong type.
        UnsupportedModelError: if the model returns no logits, or is not causal; after one run on at
            most four tokens.

    Source:
        DeYoung et al., "ERASER: A Benchmark to Evaluate Rationalized NLP Models" (ACL 2020),
        section 4.2, with the probability of a class replaced by m; ceil is a choice made here.

    Example:
        >>> from captum_ultra.perturbation import TokenScores
        >>> class Echo(nn.Module):  # expects token 3 where it has read token 1
        ...     def forward(self, ids):
        ...         seen = (ids == 1).cumsum(1) > 0
        ...         return torch.where(seen, 2.0, 0.0)[..., None] * torch.tensor([0.0, 0, 0, 1])
        >>> text = TokenScores(
        ...     input_ids=torch.tensor([0, 2, 1, 2, 2, 3]), source_positions=torch.tensor([1, 2, 3, 4]),
        ...     target_positions=torch.tensor([5]), scores=torch.tensor([0.0, 1.0, 0.0, 0.0]),
        ... )
        >>> result = comprehensiveness(Echo(), text, k=[25, 50])
        >>> result.curve, result.control.curve
        (tensor([1.0455, 1.0455], dtype=torch.float64), tensor([0.2091, 0.4182], dtype=torch.float64))
    """
    return _faithfulness(
        "comprehensiveness", model, text, scores, k, measure, replacement, tokenizer, random_orders, confidence, seed,
        internal_batch_size, show_progress,
    )  # fmt: skip


def sufficiency(
    model: nn.Module, text: ExplainedText, *, scores: Scores | None = None, k: Sequence[float] = PERCENTAGES,
    measure: str = "log_probability", replacement: int | str | None = None, tokenizer: Any = None,
    random_orders: int = 20, confidence: float = 0.95, seed: int | torch.Generator = 0,
    internal_batch_size: int | None = None, show_progress: bool = False,
) -> FaithfulnessCurve:  # fmt: skip
    """What the model loses with all but the tokens that an explanation ranks highest: m(x) - m(only the top k %).

    Lower is better: the tokens left are enough. Of the context only the top k % stay; BOS, separator
    and summary stay in any case. Everything else is as in :func:`comprehensiveness`, the arguments,
    the errors and the random orders of one seed included.

    Args:
        model: a causal language model that returns logits.
        text: input ids [N], source positions [S], target positions [T], scores [S].
        scores: in place of the text's own; several share one control.
        k: percentages of the context tokens that stay.
        measure: "log_probability" or "probability".
        replacement: None, or the token that takes the place of removed ones.
        tokenizer: looks up the name given as ``replacement``.
        random_orders: R, number of random orders of the control.
        confidence: of the interval of the control's mean.
        seed: of the random orders.
        internal_batch_size: versions of the text run at once.
        show_progress: show a progress bar.

    Returns:
        Curves over k, [K] for one score vector and [M, K] for several, with their mean and control.

    Raises:
        ValueError: as in :func:`comprehensiveness`.
        TypeError: as in :func:`comprehensiveness`.
        UnsupportedModelError: as in :func:`comprehensiveness`.

    Source:
        DeYoung et al., "ERASER: A Benchmark to Evaluate Rationalized NLP Models" (ACL 2020),
        section 4.2.

    Example:
        >>> from captum_ultra.perturbation import TokenScores
        >>> class Echo(nn.Module):  # expects token 3 where it has read token 1
        ...     def forward(self, ids):
        ...         seen = (ids == 1).cumsum(1) > 0
        ...         return torch.where(seen, 2.0, 0.0)[..., None] * torch.tensor([0.0, 0, 0, 1])
        >>> text = TokenScores(
        ...     input_ids=torch.tensor([0, 2, 1, 2, 2, 3]), source_positions=torch.tensor([1, 2, 3, 4]),
        ...     target_positions=torch.tensor([5]), scores=torch.tensor([0.0, 1.0, 0.0, 0.0]),
        ... )
        >>> result = sufficiency(Echo(), text, k=[25, 50])
        >>> result.curve, result.control.curve
        (tensor([0., 0.], dtype=torch.float64), tensor([0.8364, 0.6273], dtype=torch.float64))
    """
    return _faithfulness(
        "sufficiency", model, text, scores, k, measure, replacement, tokenizer, random_orders, confidence, seed,
        internal_batch_size, show_progress,
    )  # fmt: skip


def _faithfulness(
    metric: str, model: nn.Module, text: ExplainedText, scores: Scores | None, k: Sequence[float], measure: str,
    replacement: int | str | None, tokenizer: Any, orders: int, confidence: float, seed: int | torch.Generator,
    batch: int | None, show_progress: bool,
) -> FaithfulnessCurve:  # fmt: skip
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if measure not in _MEASURES:
        raise ValueError(f"measure must be one of {', '.join(map(repr, _MEASURES))}, got {measure!r}")
    check_batch_size(batch)
    document = check_document(text, scores)
    sources = len(document.sources)
    top = top_counts(k, sources)
    generator = check_control(orders, seed, confidence)
    token = replacement_id(replacement, tokenizer)
    if token is None:
        if metric == "comprehensiveness":
            check_remainder(document, max(top), "a smaller k")
        else:
            check_remainder(document, sources - min(top), "a larger k")
    longest, vocabulary = longest_text(model), vocabulary_size(model)
    if longest is not None and len(document.ids) > longest:
        raise ValueError(
            f"the text has {len(document.ids)} tokens, {type(model).__name__} positions for {longest}; shorten the text"
        )
    if vocabulary is not None:
        _check_vocabulary(document, token, vocabulary)

    rankings = document.scores.argsort(dim=1, descending=True, stable=True)
    rankings = torch.cat([rankings, random_orders(orders, sources, generator)])
    counts = sorted(set(top))  # several k come to the same few tokens of a short text
    with (
        explaining(model, gradients=False),
        tqdm(total=1 + len(counts) * len(rankings), desc=metric, unit="text", disable=not show_progress) as bar,
    ):
        language_model = LanguageModel(model, document.ids)
        if vocabulary is None:
            _check_vocabulary(document, token, language_model.vocabulary)

        def measured(ids: Tensor, targets: Tensor) -> Tensor:
            return _MEASURES[measure](language_model.log_probabilities(ids, targets, batch, bar.update))

        whole = measured(document.ids[None], document.targets[None])
        changed = {count: measured(*erase(document, _erased(metric, rankings, count), token)) for count in counts}
    curves = whole - torch.stack([changed[count] for count in top], dim=1)
    _check_finite(torch.cat([whole, *changed.values()]), measure)
    ours, random = curves[:-orders], curves[-orders:]
    return FaithfulnessCurve(
        metric, measure, token, tuple(k), tuple(top), sources, whole.item(), ours[0] if document.single else ours,
        summarise_control(random, confidence, generator), document.names,
    )  # fmt: skip


def _erased(metric: str, rankings: Tensor, count: int) -> Tensor:
    """Of every ranking [V, S] the tokens to remove: its first ones, or all but them."""
    return rankings[:, :count] if metric == "comprehensiveness" else rankings[:, count:]


def _check_vocabulary(document: Document, token: int | None, vocabulary: int) -> None:
    if token is not None and token >= vocabulary:
        raise ValueError(f"replacement={token} lies outside the model's vocabulary of {vocabulary} tokens")
    lowest, highest = int(document.ids.min()), int(document.ids.max())
    if lowest < 0 or highest >= vocabulary:
        raise ValueError(
            f"input_ids run from {lowest} to {highest}, the model's vocabulary from 0 to {vocabulary - 1}: do the "
            "tokenizer and the model belong together?"
        )


def _check_finite(measured: Tensor, measure: str) -> None:
    """Raise unless what was measured of the whole text, first, and of its versions is finite."""
    if bool(measured.isfinite().all()):
        return
    if bool(measured.isnan().any()):
        reason = "the model returned NaN, which is no probability either; run it in float32, and check its weights"
    else:
        reason = 'the model ruled a target out altogether, for which measure="probability" has a number'
    raise ValueError(
        f"the {measure} of the targets is {measured[0].item():.4g} for the whole text and not finite everywhere: "
        f"{reason}"
    )
