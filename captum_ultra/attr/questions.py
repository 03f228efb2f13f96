"""What is explained: a class, or a latent token. A scalar a target and a row where relevance begins, nothing else."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from captum_ultra.adapters import TokenLayout, TransformerView
from captum_ultra.adapters.class_scores import Head, class_scores
from captum_ultra.attr.readout import shares_of_gradient, warn_of_other_layers
from captum_ultra.attr.runs import Run, Runs
from captum_ultra.attr.scores import Scalar
from captum_ultra.attr.targets import Targets
from captum_ultra.errors import UnsupportedModelError
from captum_ultra.relevance import Explained, through_tail

__all__ = [
    "CLASS_SCORES", "ClassQuestion", "LatentQuestion", "Question", "check_readout", "choose_classes", "seen_tokens",
]  # fmt: skip

CLASS_SCORES = ("logit", "probability", "log_probability")


class Question(Protocol):
    """What is explained, before and after the model has run."""

    @property
    def single(self) -> bool:
        """Whether there is one target a sample, and no axis of targets."""

    def check(self, layout: TokenLayout, stream: Tensor) -> None:
        """Before the first block runs on the stream [B, n, d]; raises ``ValueError`` for targets that do not exist."""

    def read(self, output: Any) -> Tensor | UnsupportedModelError | None:
        """Class scores [B, K] of what the model returned, or why there are none; None where nobody asks."""

    def own(self) -> Tensor | None:
        """What the targets are to themselves; None where that is nothing.

        The positions [B, T] of latent tokens; of a class that is read at several patches their own shares [B, T, n],
        floating point, which a method has left out of its rows.
        """

    def explained(self, runs: Runs, run: Run, layer: int, *, linear: bool = False, begins: bool = True) -> Explained:
        """The targets at a layer of a run.

        Args:
            runs: of the model.
            run: one of them.
            layer: number of blocks passed.
            linear: whether by a scalar that is a linear map of the latents.
            begins: whether relevance begins at tokens of the layer, rather than at the score.
        """

    def scores_at(self, runs: Runs, run: Run, layers: Sequence[int]) -> list[Tensor]:
        """The targets' scalars [B, T], as they are read off the latents of other layers."""


@dataclass(eq=False)
class LatentQuestion:
    """Latent tokens of some layers.

    Attributes:
        targets: which tokens.
        scalar: of a latent.
        chunk: targets pulled back at once.
        progress: whether a bar is shown.
        padding: True for the tokens [B, n] that are padding, where that is known.
    """

    targets: Targets
    scalar: Scalar
    chunk: int | None = None
    progress: bool = False
    padding: Tensor | None = None
    indices: Tensor = field(init=False)

    @property
    def single(self) -> bool:
        return self.targets.single

    def check(self, layout: TokenLayout, stream: Tensor) -> None:
        self.indices = self.targets.indices(layout, stream.shape[0], stream.device, self.padding)
        self.scalar.check(stream)

    def read(self, output: Any) -> None:
        return None

    def own(self) -> Tensor:
        return self.indices

    def explained(self, runs: Runs, run: Run, layer: int, *, linear: bool = False, begins: bool = True) -> Explained:
        scores = self.scalar(run.trace.latents[layer], linear)
        tokens = self.indices if self.scalar.by_token else None
        return Explained(run.trace, layer, scores, self.indices, None, tokens, self.chunk, self.progress)

    def scores_at(self, runs: Runs, run: Run, layers: Sequence[int]) -> list[Tensor]:
        return [self.scalar(run.trace.latents[layer]).gather(1, self.indices) for layer in layers]


@dataclass(eq=False)
class ClassQuestion:
    """Classes of a classifier.

    Attributes:
        model: that was asked.
        target: a class, one a sample, several a sample [B, T], or None: the predicted one.
        head: as in :func:`captum_ultra.adapters.class_scores.class_scores`.
        kind: the explained scalar: "logit", "probability" or "log_probability".
        readout: where the class is read at the last layer; from where the logits depend on when None.
        required: whether a model without a head is refused.
        chunk: targets pulled back at once.
        progress: whether a bar is shown.
        kept: what a method has left out of its rows [B, T, n]: the share of relevance that the patches where the class
            is read keep to themselves.
    """

    model: nn.Module
    target: Any = None
    head: Head | None = None
    kind: str = "logit"
    readout: Sequence[int] | None = None
    required: bool = True
    chunk: int | None = None
    progress: bool = False
    kept: Tensor | None = field(init=False, default=None)
    _chosen: Tensor | None = field(init=False, default=None)
    layout: TokenLayout = field(init=False)

    @property
    def single(self) -> bool:
        if isinstance(self.target, str | tuple):
            raise TypeError(
                f"target={self.target!r}: give the number of a class, or a list or tensor with one a sample"
            )
        return self.target is None or torch.as_tensor(self.target).dim() < 2

    def check(self, layout: TokenLayout, stream: Tensor) -> None:
        self.layout = layout
        wrong = [each for each in self.readout or () if not -layout.tokens <= each < layout.tokens]
        if wrong:
            raise ValueError(f"readout: the model sees {layout.tokens} tokens, {wrong[0]} is none of them")

    def read(self, output: Any) -> Tensor | UnsupportedModelError:
        try:
            return class_scores(self.model, output, self.head)
        except UnsupportedModelError as error:
            return error

    def own(self) -> Tensor | None:
        return self.kept

    def explained(self, runs: Runs, run: Run, layer: int, *, linear: bool = False, begins: bool = True) -> Explained:
        latents, logits = run.trace.latents[layer], self._logits(run)
        if logits is None:
            chosen = torch.zeros(len(latents), 1, dtype=torch.long, device=latents.device)
            return Explained(run.trace, layer, latents[..., 0], chosen, self._readout(runs.view, run))
        # In a linear graph relevance begins at the score itself.
        start = latents.new_zeros(latents.shape[:2]) if linear else self._readout(runs.view, run)
        if begins and not linear:
            warn_of_other_layers(runs.view.name, logits, run.trace, layer)
        return Explained(
            run.trace, layer, self._scalar(logits), self._classes(logits), start, None, self.chunk, self.progress
        )

    def scores_at(self, runs: Runs, run: Run, layers: Sequence[int]) -> list[Tensor]:
        of_run = self._logits(run)
        assert of_run is not None  # methods that read a class off other layers need one
        chosen = self._classes(of_run)
        leaves = [run.trace.latents[layer].detach().requires_grad_() for layer in layers]
        logits = through_tail(
            runs.again, lambda output: class_scores(self.model, output, self.head), runs.view.model,
            runs.view.blocks, leaves, batch_first=runs.view.batch_first,
        )  # fmt: skip
        scores = torch.stack([self._scalar(each).gather(1, chosen) for each in logits])  # [L, B, T]
        # The layers were one batch: scores that depend on one layer alone are made of their gradients.
        found = []
        for target in range(chosen.shape[1]):
            gradients_of = torch.autograd.grad(scores[..., target].sum(), leaves, retain_graph=True)
            parts = zip(layers, gradients_of, strict=True)
            found.append([(run.trace.latents[layer] * gradient).sum((1, 2)) for layer, gradient in parts])
        return [torch.stack([of_target[place] for of_target in found], 1) for place in range(len(layers))]

    def _logits(self, run: Run) -> Tensor | None:
        """The class scores of a run; None for a model without classes, where none is asked for."""
        if isinstance(run.logits, UnsupportedModelError):
            if self.required or self.target is not None or self.head is not None:
                raise run.logits
            return None
        problem = getattr(getattr(self.model, "config", None), "problem_type", None)
        if problem == "multi_label_classification" and self.kind != "logit" and self.head is None:
            raise ValueError(
                f"class_score={self.kind!r}: {type(self.model).__name__} is configured for several labels at once, "
                'whose logits have no common softmax; give class_score="logit"'
            )
        if isinstance(run.logits, Tensor) and run.logits.isnan().any():
            raise ValueError(
                f"the class scores of {type(self.model).__name__} contain NaN; explanations need numbers: check the "
                "input, the weights of the head, and the precision (float16 overflows above 65504)"
            )
        return run.logits

    def _classes(self, logits: Tensor) -> Tensor:
        """The explained classes [B, T]; chosen once, as runs of other kinds round otherwise."""
        if self._chosen is None:
            self._chosen = choose_classes(self.target, logits)
        return self._chosen

    def _scalar(self, logits: Tensor) -> Tensor:
        """The scalars [B, K] of all classes."""
        if logits.device.type in ("cpu", "cuda"):  # near 1, the gradient p (1 - p) of a probability is lost in float32
            logits = logits.double()
        if self.kind == "logit":
            return logits
        return logits.log_softmax(-1) if self.kind == "log_probability" else logits.softmax(-1)

    def _readout(self, view: TransformerView, run: Run) -> Tensor:
        """Where the classes are read at the last layer: weights [B, T, n], or [B, n] for all, that sum to one.

        Tokens that the caller names have equal parts. Without a head: the first token where there is a prefix (CLS),
        else all tokens.
        """
        latents = run.trace.latents[len(view.blocks)]
        if self.readout is None and isinstance(run.logits, Tensor):
            classes = self._classes(run.logits) if self.required else None
            return shares_of_gradient(view.name, run.logits, latents, classes)
        wide = torch.promote_types(latents.dtype, torch.float32)
        read = torch.zeros(latents.shape[:2], dtype=wide, device=latents.device)
        read[:, list(self.readout) if self.readout else 0 if self.layout.prefix else slice(None)] = 1
        return read / read.sum(1, keepdim=True)


def seen_tokens(runs: Runs, run: Run) -> Tensor:
    """True for the tokens [B, n] that are no padding."""
    stream = next(iter(run.trace.latents.values()))
    return ~runs.padding.to(stream.device)


def choose_classes(target: Any, logits: Tensor) -> Tensor:
    """The explained classes of every sample [B, T], out of a class for all, one or several for each, or None.

    Raises:
        ValueError, TypeError: say what was given and which classes exist.

    Example:
        >>> choose_classes(None, torch.tensor([[0.0, 2.0], [1.0, 0.0]])).tolist()    # the predicted ones
        [[1], [0]]
    """
    batch, count = logits.shape
    if target is None:
        return logits.detach().argmax(-1, keepdim=True)
    classes = torch.as_tensor(target, device=logits.device)
    if not classes.numel():
        raise ValueError(f"target: no class was given for a batch of {batch}")
    if classes.is_floating_point() or classes.is_complex() or classes.dtype == torch.bool:
        raise TypeError(f"target must be a class number or several, got {target!r}")
    classes = classes.reshape(-1, 1) if classes.dim() < 2 else classes
    if classes.dim() > 2 or len(classes) not in (1, batch):
        raise ValueError(
            f"target: {len(classes)} classes for a batch of {batch}; give one, one a sample [B], or several a sample "
            "[B, T]"
        )
    if ((classes < 0) | (classes >= count)).any():
        wrong = classes[(classes < 0) | (classes >= count)][0].item()
        raise ValueError(f"target: class {wrong} does not exist, the model has {count} classes (0..{count - 1})")
    return classes.long().expand(batch, -1).clone()  # no inference tensor, which no graph can hold


def check_readout(readout: Any) -> Sequence[int] | None:
    """Indices of tokens, or None.

    Raises:
        ValueError: for anything that lists none.
    """
    if readout is None:
        return None
    if isinstance(readout, str | int) or not len(readout):
        raise ValueError(f"readout must list at least one token, got {readout!r}")
    return [operator.index(token) for token in readout]
