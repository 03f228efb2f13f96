"""Token contribution scores of language models: what a context gave to its summary (ULTra, eq. 15)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from captum_ultra.adapters import Blocks, ModelViews, TransformerView
from captum_ultra.adapters.text import input_device, model_name
from captum_ultra.attr.asked import Asked, StartLayer, runs_for
from captum_ultra.attr.attribution import DEFAULT_SCORE
from captum_ultra.attr.contribution.assemble import Options, assemble
from captum_ultra.attr.contribution.documents import Document, check_text, joined_document, padded, span_document
from captum_ultra.attr.contribution.result import Contribution, SpanContribution
from captum_ultra.attr.inputs import check_batch_size
from captum_ultra.attr.methods import find_method
from captum_ultra.attr.methods.attention_rollout import AttentionRollout
from captum_ultra.attr.questions import LatentQuestion
from captum_ultra.attr.runs import half_precision_explained
from captum_ultra.attr.scores import Score, as_score
from captum_ultra.attr.targets import Layers, Targets, layer_numbers
from captum_ultra.errors import UnsupportedModelError, warn_caller
from captum_ultra.texts.tokens import check_tokenizer, tokenize, warn_of_unknown

__all__ = ["TokenContribution"]

_DEFAULT_CHOICES = {"gates": "constant", "reading": "absolute"}  # of "conservative"; docs/which_latent_method.md
_PROBE = 4  # tokens that tell a causal model from one that looks ahead


class TokenContribution:
    """Which tokens of a context a summary rests on (ULTra, arXiv 2411.12589, eq. 15).

    Context, separator and summary run through the model as one text. With S the explanation matrix of a method at a
    layer, x the tokens before the summary and y its tokens,

        lambda_i = mean_j S[|x| + j, i]

    is what context token i contributed to the summary. The defaults are what finds evidence best where it is known:
    conservative relevance with constant gates, by absolute value, of the energy of the latents that predict the
    summary; ``method="residual"`` is nearly as good and signed. The paper's own: ``method="ultra"``, ``score="sum"``,
    ``position="token"``. The model is explained in evaluation mode and left exactly as it was found.

    Args:
        model: a causal language model of transformers, or a TransformerLens bridge; for
            :meth:`attribute_spans` an encoder as well.
        tokenizer: the model's fast tokenizer; None takes the one that a bridge carries. The text is read as
            the tokenizer is set up: with a BOS token only if it adds one.
        blocks: the name of the container of the residual blocks, or the blocks in order; found
            automatically when None.
        method: "residual", "conservative", "ultra", or another name of
            :data:`captum_ultra.attr.methods.METHODS`; None takes "conservative" with ``gates="constant"`` and
            ``reading="absolute"``.
        probe: as in :class:`captum_ultra.LatentTokenAttribution`.
        choices: of the method, such as ``reading`` or ``gamma`` of "residual".

    Raises:
        TypeError: if ``model`` is not a module, or ``tokenizer`` not a tokenizer of transformers.
        ValueError: if there is no tokenizer, or one without character offsets.
        UnsupportedModelError: for wrappers that hide the attention (compiled, DataParallel).

    Example:
        >>> from captum_ultra.models.loader import load_model
        >>> loaded = load_model("facts-llama")
        >>> method = TokenContribution(loaded.model, loaded.tokenizer)
        >>> found = method.attribute("Mara lives in Rome.", " Mara is at home somewhere in Italy.")
        >>> found.context_tokens
        ('Mara', 'lives', 'in', 'Rome', '.')
        >>> found.scores.shape, found.matrix.shape
        (torch.Size([5]), torch.Size([8, 5]))
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any = None, blocks: Blocks | None = None, *, method: str | None = None,
        probe: bool = True, **choices: Any,
    ) -> None:  # fmt: skip
        self._views = ModelViews(model, blocks, probe=probe)
        if method is None:
            method, choices = "conservative", {**_DEFAULT_CHOICES, **choices}
        self.method, self._method = method, find_method(method)(model, blocks)
        self._choices = self._method.checked(choices)
        tokenizer = getattr(model, "tokenizer", None) if tokenizer is None else tokenizer
        if tokenizer is None:
            raise ValueError(f"{type(model).__name__} carries no tokenizer; give the model's own as tokenizer=")
        check_tokenizer(tokenizer)
        self.model = model
        self.tokenizer = tokenizer
        self._causal: bool | None = None

    def attribute(
        self, context: str | Sequence[str], summary: str | Sequence[str], *, separator: str = "\nTL;DR:",
        layer: Layers = -1, score: Score = DEFAULT_SCORE, normalize: bool = True, reduce: str = "mean",
        position: str = "prediction", sink: str = "keep", self_token: str = "max",
        internal_batch_size: int | None = None, show_progress: bool = False,
    ) -> Contribution | list[Contribution] | list[list[Contribution]]:  # fmt: skip
        """Explain the tokens of a summary by those of its context.

        The three texts are joined as they are: begin the summary with a blank if the model should read one. The
        joined text is tokenised once; a token that reaches over a boundary belongs to the part with most of its
        visible characters, the earlier one at a tie. Tokens that the tokenizer adds (BOS, EOS) are neither sources
        nor targets.

        Args:
            context: a text, or D documents; they run as one padded batch, so give as many as memory holds.
            summary: a text, or D of them.
            separator: stands between the two; may be empty.
            layer: number of blocks passed, 0 (the embedding) to L, negative from the end, or a block, or its name:
                after that block. A list or tuple explains several layers from one run.
            score: "sum" (f_s), "energy" (f_e), weights [d] (f_w), or a callable of the latents [B, N, d] -> [B, N];
                see :func:`captum_ultra.attr.scores.as_score`.
            normalize: divide every latent by its norm, taken as a constant, before scoring.
            reduce: over the summary tokens: "mean" (eq. 15), "sum" or "max".
            position: "prediction" explains the latents one position before the summary tokens, from which a causal
                model predicts them, "token" those at the summary tokens (eq. 15).
            sink: where the tokenizer adds no BOS, the first token of the context takes its part and draws
                relevance that says little about it: "keep" leaves it among the scores, "separate" reports it as
                ``sink``. A BOS token is always reported as ``sink``.
            self_token: what stands where an explained latent is itself a source (only with "prediction" and
                without a separator): "max" of the others, "keep", or "zero".
            internal_batch_size: targets pulled back at once; from a memory budget when None.
            show_progress: show a progress bar over the targets.

        Returns:
            For one text a :class:`captum_ultra.attr.contribution.result.Contribution`, for D documents a list of D.
            With several layers, each of these is a list in the order of ``layer``: documents are the outer list,
            layers the inner one.

        Raises:
            TypeError: for arguments of the wrong kind.
            ValueError: for arguments that do not fit, blank texts, texts longer than the model's positions, a
                tokenizer of another model; before the model runs on the text.
            UnsupportedModelError: for models that cannot be explained faithfully, and for models without a causal
                mask, whose context would see its summary.

        Example:
            >>> from captum_ultra.models.loader import load_model
            >>> loaded = load_model("facts-llama")
            >>> method = TokenContribution(loaded.model, loaded.tokenizer)
            >>> contexts, summaries = ["Mara lives in Rome.", "Omar lives in Paris."], [" Mara in Italy.", " Omar."]
            >>> found = method.attribute(contexts, summaries, layer=[2, -1])
            >>> [[result.layer for result in of_document] for of_document in found]
            [[2, 4], [2, 4]]
        """
        options = Options(score, normalize, reduce, position, sink, self_token)
        if not isinstance(separator, str):
            raise TypeError(f"separator must be a string, got {type(separator).__name__}")
        (contexts, several), (summaries, several_too) = _listed(context), _listed(summary)
        if several != several_too:
            raise TypeError("context and summary must both be strings, or both lists of strings")
        if len(contexts) != len(summaries) or not contexts:
            raise ValueError(
                f"{len(contexts)} contexts and {len(summaries)} summaries were given; one summary is needed for each "
                "context, and at least one of both"
            )
        pairs = zip(contexts, summaries, strict=True)
        documents = [joined_document(self.tokenizer, x, separator, y, position, sink) for x, y in pairs]
        found = self._explain(documents, layer, options, internal_batch_size, show_progress, causal=True)
        return found if several else found[0]

    def attribute_spans(
        self, text: str | Sequence[str], targets: Any, sources: Any = None, *, layer: Layers = -1,
        score: Score = DEFAULT_SCORE, normalize: bool = True, reduce: str = "mean", position: str | None = None,
        sink: str = "keep", self_token: str = "max", internal_batch_size: int | None = None,
        show_progress: bool = False,
    ) -> SpanContribution | list[SpanContribution] | list[list[SpanContribution]]:  # fmt: skip
        """Explain any tokens of a text by any others; for causal models and for encoders.

        Args:
            text: a text, or D documents.
            targets: what is explained: a tuple (start, end) of characters, a token's index (special tokens
                count; negative from the end), or a list of these. For D documents a list with one of them each.
                A span stands for the tokens that share a visible character with it.
            sources: what explains, given in the same way; None takes all tokens that the tokenizer did not add.
            layer: as in :meth:`attribute`.
            score: as in :meth:`attribute`. The sum and the norm behind the LayerNorm of a post-norm encoder (BERT)
                are constants: a warning says so, and a vector is the score to give.
            normalize: as in :meth:`attribute`.
            reduce: over the target tokens: "mean", "sum" or "max".
            position: "token", or "prediction": the latents one position before the targets, which only a causal model
                has; None is "prediction" for causal models and "token" for others.
            sink: as in :meth:`attribute`; the first token is reported as ``sink`` where it is BOS or CLS.
            self_token: what stands where an explained latent is itself a source, which the residual
                connection fills with a one: "max" of the others, "keep", or "zero".
            internal_batch_size: as in :meth:`attribute`.
            show_progress: as in :meth:`attribute`.

        Returns:
            A :class:`captum_ultra.attr.contribution.result.SpanContribution`, or lists as in :meth:`attribute`.

        Raises:
            TypeError: as in :meth:`attribute`.
            ValueError: as in :meth:`attribute`, and for spans and tokens that do not exist.
            UnsupportedModelError: for models that cannot be explained faithfully.

        Example:
            >>> from captum_ultra.models.loader import load_model
            >>> loaded = load_model("facts-llama")
            >>> method = TokenContribution(loaded.model, loaded.tokenizer)
            >>> found = method.attribute_spans("Mara lives in Rome.", targets=(14, 18))
            >>> found.target_tokens, found.source_tokens
            (('Rome',), ('Mara', 'lives', 'in', 'Rome', '.'))
        """
        texts, several = _listed(text)
        asked = _asked(texts, targets, sources) if several else [(text, targets, sources)]
        if position is None:
            first: Any = asked[0][0]
            check_text(first, "text")
            ids = torch.tensor([tokenize(self.tokenizer, first).ids], device=input_device(self.model))
            position = "prediction" if self._is_causal(self._views(ids), ids) else "token"
        options = Options(score, normalize, reduce, position, sink, self_token)
        documents = [span_document(self.tokenizer, read, to, by, position, sink) for read, to, by in asked]
        found = self._explain(documents, layer, options, internal_batch_size, show_progress, causal=False)
        return found if several else found[0]

    def _explain(
        self, documents: Sequence[Document], layer: Layers, options: Options, chunk: int | None, progress: bool,
        causal: bool,
    ) -> list[Any]:  # fmt: skip
        """For each document a result, or a list of results if ``layer`` lists several."""
        check_batch_size(chunk)
        for document in documents:
            warn_of_unknown(document.tokens, self.tokenizer)
        # Texts are padded on the right, where no token of a causal model looks: without a mask the kernel still knows
        # that it is causal, and leaves out half of the work.
        ids, mask, latents = padded(documents, self.tokenizer, self.model)
        ids = ids.to(input_device(self.model))
        extra = None if mask is None or causal else {"attention_mask": mask.to(ids.device)}
        with half_precision_explained(self.model):
            view = self._views.resolved(ids, extra)
            numbers, several = layer_numbers(layer, self.model, view.blocks)
            view = self._views.probed(view, ids, extra)
            if view.findings and view.findings.adds_tokens:
                raise UnsupportedModelError(
                    f"{view.name} makes more tokens than there are ids, which cannot be laid over the text: explain "
                    "its latent tokens by LatentTokenAttribution, whose rows are over the tokens that the model sees"
                )
            if causal:
                self._check_causal(view, ids)
            question = LatentQuestion(
                Targets(None, latents, single=False), as_score(options.score, options.normalize), chunk, progress
            )
            rows = self._rows(view, ids, extra, question, numbers)
        name = model_name(self.model)
        results = [
            [assemble(document, rows[number][index], number, name, options, self.method) for number in numbers]
            for index, document in enumerate(documents)
        ]
        _warn_if_nothing([each for of_document in results for each in of_document])
        return results if several else [of_document[0] for of_document in results]

    def _rows(
        self, view: TransformerView, ids: Tensor, extra: Any, question: LatentQuestion, layers: Sequence[int],
        rollout: bool = False,
    ) -> dict[int, Tensor]:  # fmt: skip
        """Layer -> rows [D, T, N], by the chosen method or by attention rollout."""
        method, choices = (AttentionRollout(self.model), StartLayer()) if rollout else (self._method, self._choices)
        runs = runs_for({method: choices}, view, ids, extra, [question], layers)
        return {layer: method.rows_of(Asked(runs, question, layer, choices)).cpu() for layer in layers}

    def _is_causal(self, view: TransformerView, ids: Tensor) -> bool:
        """Whether the first block of the model gives a token no attention to what follows.

        Row 0 of a rollout through one block is exactly zero beside the token itself under a causal mask, in
        any precision, and positive without.
        """
        if self._causal is None:
            first = LatentQuestion(Targets(None, torch.zeros(1, 1).long(), single=False), as_score("sum"))
            row = self._rows(view, ids[:1, :_PROBE], None, first, [1], rollout=True)[1][0, 0]
            self._causal = not bool(row[1:].any())
        return self._causal

    def _check_causal(self, view: TransformerView, ids: Tensor) -> None:
        if not self._is_causal(view, ids):
            raise UnsupportedModelError(
                f"{view.name} has no causal mask: its context sees the summary, so that relevance for the summary is "
                "not what the context alone contributed. Explain its tokens with attribute_spans(text, targets=...)"
            )


def _listed(texts: Any) -> tuple[list[Any], bool]:
    """Documents as a list, and whether they were given as one."""
    return (list(texts), True) if isinstance(texts, list | tuple) else ([texts], False)


def _asked(texts: list[Any], targets: Any, sources: Any) -> list[tuple[Any, Any, Any]]:
    """A text with its own targets and sources for each document."""
    sources = [None] * len(texts) if sources is None else sources
    for name, given in (("targets", targets), ("sources", sources)):
        if not isinstance(given, list) or len(given) != len(texts) or not texts:
            count = len(given) if isinstance(given, list) else f"no list ({given!r})"
            raise ValueError(f"{name}: a list with one entry for each of the {len(texts)} texts is needed, got {count}")
    return list(zip(texts, targets, sources, strict=True))


def _warn_if_nothing(results: Sequence[SpanContribution]) -> None:
    for found in results:
        if not found.scores.any():
            warn_caller(
                f"all scores are zero at layer {found.layer}: the explained tokens hold nothing of the sources there, "
                "as at the embedding, or for sources that come after the targets of a causal model"
            )
