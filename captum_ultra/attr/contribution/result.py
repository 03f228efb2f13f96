"""What a text contributed to its latent tokens: the results of ``TokenContribution``."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from captum_ultra.attr.methods.titles import method_title
from captum_ultra.io import load_tensors, save_tensors, written_whole
from captum_ultra.texts.aggregate import ScoredText, aggregate, sentence_spans, word_spans
from captum_ultra.texts.tokens import Span

if TYPE_CHECKING:
    from captum.attr import LLMAttributionResult
    from matplotlib.figure import Figure
    from typing_extensions import Self

__all__ = ["Contribution", "SpanContribution"]


@dataclass(frozen=True, kw_only=True, eq=False)
class SpanContribution:
    """Relevance of the source tokens of a text for its target tokens, at one layer.

    With S source tokens, T target tokens and N tokens in all:

    Attributes:
        text: the text that the model read.
        scores: [S], the rows of ``matrix`` reduced over the target tokens.
        matrix: [T, S], relevance of each source token for each target token.
        source_offsets: S character spans (start, end) in ``text``.
        target_offsets: T character spans in ``text``.
        input_ids: [N], special tokens included.
        source_positions: [S], indices into ``input_ids``.
        target_positions: [T], indices into ``input_ids``.
        sink: [T], what the first token received from each target token, when that is no source token: BOS or CLS,
            or the first token of the text on request. Models park attention there; it says little about the text.
        sink_token: the first token as the tokenizer calls it, None if ``sink`` is None.
        model: the model's name.
        layer: number of blocks passed, 0..L.
        score: the scalar of the latent that was explained.
        normalize: whether latents were divided by their norm before.
        reduce: how rows became ``scores``: "mean", "sum" or "max".
        position: "token" if the latents at the target tokens were explained, "prediction" if those before them.
        self_token: what stands where an explained latent is itself among the sources.
        method: by which the rows were made.
    """

    text: str
    scores: Tensor
    matrix: Tensor
    source_offsets: tuple[Span, ...]
    target_offsets: tuple[Span, ...]
    input_ids: Tensor
    source_positions: Tensor
    target_positions: Tensor
    sink: Tensor | None
    sink_token: str | None
    model: str
    layer: int
    score: str
    normalize: bool
    reduce: str
    position: str
    self_token: str
    method: str = "ultra"

    kind: ClassVar[str] = "spans"

    @property
    def source_text(self) -> str:
        """The part of ``text`` that the source tokens are from."""
        return self.text

    @property
    def target_text(self) -> str:
        """The part of ``text`` that the target tokens are from."""
        return self.text

    @property
    def source_spans(self) -> tuple[Span, ...]:
        """S character spans in ``source_text``."""
        return self.source_offsets

    @property
    def target_spans(self) -> tuple[Span, ...]:
        """T character spans in ``target_text``."""
        return self.target_offsets

    @property
    def source_tokens(self) -> tuple[str, ...]:
        """S slices of ``source_text``. Tokens that are bytes of one character show the whole character each."""
        return tuple(self.source_text[start:end] for start, end in self.source_spans)

    @property
    def target_tokens(self) -> tuple[str, ...]:
        """T slices of ``target_text``."""
        return tuple(self.target_text[start:end] for start, end in self.target_spans)

    @property
    def method_title(self) -> str:
        """The method and the score that it explains, as figures and pages name them."""
        return method_title(self.method, self.score)

    @property
    def latent_positions(self) -> Tensor:
        """[T], indices of the latents that were explained, one before the target tokens for "prediction"."""
        return self.target_positions - (1 if self.position == "prediction" else 0)

    def top(self, k: int = 10) -> list[ScoredText]:
        """The k source tokens of the highest score, in descending order: (token, score, offset).

        Raises:
            ValueError: if k is not positive.
        """
        if k < 1:
            raise ValueError(f"k={k}: at least one token has to be asked for")
        best = torch.argsort(self.scores, descending=True, stable=True)[:k].tolist()
        tokens, spans = self.source_tokens, self.source_spans
        return [ScoredText(tokens[index], self.scores[index].item(), spans[index]) for index in best]

    def words(self, aggregation: str = "sum") -> list[ScoredText]:
        """Words and runs of punctuation of the source text: (text, score, span).

        Words that share a token are joined, so that with "sum" the scores add up to those of the tokens; words
        without a source token are left out.

        Args:
            aggregation: over the tokens of a word: "sum", "mean" or "max".

        Raises:
            ValueError: for another aggregation.
        """
        return self._aggregate(word_spans(self.source_text), aggregation)

    def sentences(self, aggregation: str = "sum") -> list[ScoredText]:
        """Sentences of the source text: (text, score, span).

        They end as :func:`captum_ultra.texts.aggregate.sentence_spans` says.

        Args:
            aggregation: over the tokens of a sentence: "sum", "mean" or "max".

        Raises:
            ValueError: for another aggregation.
        """
        return self._aggregate(sentence_spans(self.source_text), aggregation)

    def to_dict(self) -> dict[str, Any]:
        """Everything in numbers, strings and lists, ready for JSON; the tokens and their texts included."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        values |= {"kind": self.kind, "source_tokens": self.source_tokens, "target_tokens": self.target_tokens}
        return {name: each.tolist() if isinstance(each, Tensor) else each for name, each in values.items()}

    def to_json(self) -> str:
        """`to_dict` as a JSON text."""
        return json.dumps(self.to_dict(), ensure_ascii=False, allow_nan=False)

    def save(self, path: str | Path) -> Path:
        """Write one .safetensors file: the tensors, and everything else as JSON in its metadata.

        Raises:
            ValueError: for another suffix.
        """
        return save_tensors({field.name: getattr(self, field.name) for field in fields(self)}, self.kind, Path(path))

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the file holds something else.
        """
        values = load_tensors(cls.kind, Path(path))
        spans = {name: tuple(map(tuple, each)) for name, each in values.items() if name.endswith("_offsets")}
        if "separator_span" in values:
            spans["separator_span"] = tuple(values["separator_span"])
        return cls(**{"sink": None, **values, **spans})

    def to_captum(self) -> LLMAttributionResult:
        """The same as Captum's result for language models, whose plots show it.

        ``seq_attr`` [S] are the scores, ``token_attr`` [T, S] the matrix.
        """
        from captum.attr import LLMAttributionResult

        return LLMAttributionResult(
            input_tokens=list(self.source_tokens), output_tokens=list(self.target_tokens),
            seq_attr=self.scores, token_attr=self.matrix,
        )  # fmt: skip

    def to_html(self) -> str:
        """A page of its own: the text coloured by relevance, and by that of one target token on demand."""
        from captum_ultra.figures.text import contribution_page

        return contribution_page(self)

    def save_html(self, path: str | Path) -> Path:
        """Write the page of `to_html`, in UTF-8."""

        path = Path(path)
        with written_whole(path) as unfinished:
            unfinished.write_text(self.to_html(), encoding="utf-8")
        return path

    def figure(self) -> Figure:
        """The text coloured by relevance, with a colour bar."""
        from captum_ultra.figures.text import contribution_figure

        return contribution_figure(self)

    def save_png(self, path: str | Path) -> Path:
        """Write the figure; any suffix that matplotlib knows.

        Raises:
            ValueError: for another suffix.
        """
        from captum_ultra.figures.saving import check_suffix, save_figure

        check_suffix(path)
        return save_figure(self.figure(), path)

    def _aggregate(self, spans: list[Span], aggregation: str) -> list[ScoredText]:
        return aggregate(self.source_text, spans, self.source_spans, self.scores.tolist(), aggregation)


@dataclass(frozen=True, kw_only=True, eq=False)
class Contribution(SpanContribution):
    """Relevance of the tokens of a context for those of its summary, ``lambda`` of ULTra's eq. 15.

    The text is ``context || separator || summary``; source tokens are those of the context, target tokens those
    of the summary. Beside the attributes of :class:`SpanContribution`:

    Attributes:
        separator_span: where the separator stands in ``text``.

    Example:
        >>> from captum_ultra import TokenContribution
        >>> from captum_ultra.models.loader import load_model
        >>> loaded = load_model("facts-llama")
        >>> found = TokenContribution(loaded.model, loaded.tokenizer).attribute("Mara lives in Rome.", " Mara.")
        >>> [word.text for word in found.words()], found.sentences()[0].span, found.sink_token
        (['Mara', 'lives', 'in', 'Rome', '.'], (0, 19), '<s>')
        >>> found.top(1)[0].score == found.scores.max().item()
        True
    """

    separator_span: Span

    kind: ClassVar[str] = "summary"

    @property
    def context(self) -> str:
        """The context as it was given."""
        return self.text[: self.separator_span[0]]

    @property
    def separator(self) -> str:
        """The separator as it was given."""
        return self.text[slice(*self.separator_span)]

    @property
    def summary(self) -> str:
        """The summary as it was given."""
        return self.text[self.separator_span[1] :]

    @property
    def source_text(self) -> str:
        """The context."""
        return self.context

    @property
    def target_text(self) -> str:
        """The summary."""
        return self.summary

    @property
    def source_spans(self) -> tuple[Span, ...]:
        """S character spans in ``context``; of a token that reaches beyond, its part inside."""
        end = self.separator_span[0]
        return tuple((min(start, end), min(stop, end)) for start, stop in self.source_offsets)

    @property
    def target_spans(self) -> tuple[Span, ...]:
        """T character spans in ``summary``; of a token that begins before it, its part inside."""
        begin = self.separator_span[1]
        return tuple((max(start - begin, 0), max(stop - begin, 0)) for start, stop in self.target_offsets)

    # The same under names that say which part is meant.
    context_offsets = property(lambda self: self.source_spans, doc="S character spans in ``context``.")
    summary_offsets = property(lambda self: self.target_spans, doc="T character spans in ``summary``.")
    context_tokens = property(lambda self: self.source_tokens, doc="S slices of the context.")
    summary_tokens = property(lambda self: self.target_tokens, doc="T slices of the summary.")
