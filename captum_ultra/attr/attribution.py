"""Captum's interface to all methods: what is explained, by which method, presented how."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from typing import Any, ClassVar

import torch
from captum.attr import GradientAttribution
from captum.log import log_usage
from torch import Tensor, nn

from captum_ultra.adapters import Blocks, ModelViews, TransformerView
from captum_ultra.adapters.class_scores import Head, check_head
from captum_ultra.attr.asked import Asked, NoChoices, StartLayer, runs_for, start_of
from captum_ultra.attr.inputs import check_batch_size, checked_inputs
from captum_ultra.attr.post_norm import warn_if_constant
from captum_ultra.attr.presentation import Presentation
from captum_ultra.attr.questions import CLASS_SCORES, ClassQuestion, LatentQuestion, Question, check_readout
from captum_ultra.attr.runs import Attended, Need, half_precision_explained
from captum_ultra.attr.scores import Score, as_score
from captum_ultra.attr.targets import Layers, Token, layer_numbers, parse_targets
from captum_ultra.errors import UnsupportedModelError, warn_caller

__all__ = ["DEFAULT_SCORE", "TokenAttribution", "attribute_all"]

DEFAULT_SCORE = "energy"


class TokenAttribution(GradientAttribution):
    """Base of all methods: explains a class, or any latent token. A method adds how relevance goes.

    The model is explained in evaluation mode and left exactly as it was found.

    Args:
        model: a transformer of timm, transformers, open_clip, torchvision or TransformerLens, or any module whose
            residual blocks run one self-attention each. Of a two-tower model (CLIP) the input decides: float images
            are given to the vision tower, integer ids to the text tower. For a class: one that returns one score a
            class [B, K].
        blocks: the name of the container of the residual blocks, or the blocks in order; found when None.
        head: makes class scores [B, K] of what a model without classification head returns: a callable, or class
            embeddings [K, d] (zero-shot classification with CLIP), compared by cosine.
        probe: whether, before the first explanation of a kind of input, one run finds out that the blocks are what they
            are taken for (see :func:`captum_ultra.describe`). It costs about one explained token; without it, a model
            that mixes tokens outside its attention is explained as if it did not.

    Raises:
        TypeError: if ``model`` is not a module.
        UnsupportedModelError: for wrappers that hide the attention (compiled, DataParallel).
    """

    choices: ClassVar[type] = NoChoices
    """What can be chosen of the method: a frozen dataclass, whose fields are arguments of :meth:`attribute`."""
    needs_class: ClassVar[bool] = True
    """Whether maps depend on the class, or on the score of a latent token: whether gradients play a part."""
    default_class_score: ClassVar[str] = "logit"
    class_scores: ClassVar[tuple[str, ...]] = CLASS_SCORES
    """The scalars of a class that the method explains."""

    def __init__(
        self, model: nn.Module, blocks: Blocks | None = None, *, head: Head | None = None, probe: bool = True
    ) -> None:
        self._views = ModelViews(model, blocks, probe=probe)
        check_head(head)
        GradientAttribution.__init__(self, model)
        self.model, self.head = model, head

    def has_convergence_delta(self) -> bool:
        """False: what is explained is no difference from a baseline."""
        return False

    # What a method says of itself.

    def needs(self, layer: int, choices: Any) -> list[Need]:
        """The runs that explaining a layer needs."""
        return [Need(Attended(), self.first(layer, choices), (layer,))]

    def first(self, layer: int, choices: Any) -> int:
        """The block at which relevance ends: 0, or where the method begins."""
        return start_of(choices.start_layer, layer) if isinstance(choices, StartLayer) else 0

    def rows(self, asked: Asked) -> Tensor:
        """Relevance [B, T, n] of the tokens that enter the first block."""
        raise NotImplementedError

    def pixels(self, asked: Asked) -> Tensor | None:
        """Relevance [B, T, C, H, W] of an image's pixels, where the method has one of its own."""
        return None

    # What every method shares.

    @log_usage(part_of_slo=True)
    def attribute(
        self, inputs: Tensor | tuple[Tensor, ...], target: Any = None, *, token: Token | None = None,
        layer: Layers | None = None, score: Score | None = None, normalize: bool = True, self_token: str = "max",
        output: str = "input", interpolation: str = "bilinear", rescale: bool = False, class_score: str | None = None,
        readout: Sequence[int] | None = None, additional_forward_args: Any = None,
        internal_batch_size: int | None = None, show_progress: bool = False, **choices: Any,
    ) -> Any:  # fmt: skip
        """Explain a class, or latent tokens where ``token`` or ``layer`` is given.

        Args:
            inputs: images [B, C, H, W] (float, normalised as the model expects), token ids [B, N], or embeddings
                [B, N, d]; a 1-tuple gives a 1-tuple.
            target: the class: one for all, one a sample [B], or several a sample [B, T]; the predicted one when None.
                With ``layer``: the latent tokens of each sample, [B] or [B, T] (Captum's wrappers expand it).
            token: which latent tokens: an index (0 is the first token the model sees, CLS where there is one; negative
                from the last that is no padding), a (row, col) patch, a list of either, ``"all"`` tokens, or
                ``"patches"`` (without CLS, registers, distillation tokens).
            layer: of the latent tokens: number of blocks passed, 0 (the embedding) to L, negative from the end, a
                block, or its name: after that block; the last one when None. A list explains several layers from one
                run.
            score: of a latent token: "energy" (f_e, the default), "sum" (f_s), weights [d] or [n, d] (f_w), or a
                callable of the latents [B, n, d] -> [B, n]; see :func:`captum_ultra.attr.scores.as_score`.
            normalize: divide every latent by its norm, taken as a constant, before scoring.
            self_token: what stands at a latent token's own position: "max" of the other entries, "keep", or "zero". Of
                a class that is read at several patches, "keep" adds what these keep to themselves, which is else left
                out.
            output: "input" (maps as large as the image; for sequences the row), "tokens" (the row over all tokens,
                prefix included), "patches" (without the prefix), or "channels" (the image's exact shape).
            interpolation: how maps are enlarged: "bilinear", "bicubic" (as the authors of ULTra do; falls below zero
                beside sharp peaks) or "nearest".
            rescale: whether every sample's map is min-max scaled to 0..1.
            class_score: the explained scalar of a class: "logit", "probability" or "log_probability".
            readout: of a class, indices of the tokens where it is read at the last layer, in equal parts; by default
                those on which the logits depend, each by its share of the gradient (CLS alone, where the model
                classifies by it).
            additional_forward_args: further arguments of the model, as in Captum; for transformers models an attention
                mask [B, N], or a dict of keyword arguments.
            internal_batch_size: targets pulled back at once; from a memory budget when None. 1 avoids vectorised
                gradients, which custom operations may lack.
            show_progress: show a progress bar over the targets.
            choices: of the method; see its description.

        Returns:
            For one target a sample [B, 1, H, W] ("input", images), [B, N] ("tokens", and "input" for sequences), [B, P]
            ("patches"), [B, C, H, W] ("channels"). For several targets a T axis: [B, T, H, W], [B, T, N], [B, T, P]. At
            least float32, contiguous. For a list of layers a list of these.

        Raises:
            ValueError, TypeError: for arguments; before the blocks run.
            UnsupportedModelError: for models that cannot be explained faithfully.
        """
        chosen = self.checked(choices)
        presentation = Presentation(self_token, output, interpolation, rescale)
        check_batch_size(internal_batch_size)
        tensor = checked_inputs(inputs, self.model)
        question: Question
        if token is None and layer is None:
            if score is not None:
                raise TypeError(
                    f"score={score!r} is of latent tokens; give token= or layer=, or class_score= of a class"
                )
            question = ClassQuestion(
                self.model, target, self.head, self._class_score(class_score), check_readout(readout), self.needs_class,
                internal_batch_size, show_progress,
            )  # fmt: skip
        else:
            for name, given in (("class_score", class_score), ("readout", readout)):
                if given is not None:
                    raise TypeError(
                        f"{name!r} is an argument of explanations of a class; latent tokens have no such choice"
                    )
            targets = parse_targets(0 if token is None else token, target)
            scalar = as_score(DEFAULT_SCORE if score is None else score, normalize)
            question = LatentQuestion(targets, scalar, internal_batch_size, show_progress)
        presentation.check(tensor, question.single)
        with half_precision_explained(self.model):
            view = self._views.resolved(tensor, additional_forward_args)
            layers, several = self._layers(layer, question, view)
            view = self._views.probed(view, tensor, additional_forward_args)
            if view.findings and view.findings.layout:
                presentation.check_layout(view.findings.layout, tensor)
            runs = runs_for({self: chosen}, view, tensor, additional_forward_args, [question], layers)
            if isinstance(question, LatentQuestion) and tensor.dim() < 4 and (
                question.targets.from_the_end or (additional_forward_args is not None and question.targets.named)
            ):  # fmt: skip
                question.padding = runs.padding
            maps = [self._map(Asked(runs, question, each, chosen), presentation) for each in layers]
        found = [(each,) if isinstance(inputs, tuple) else each for each in maps]
        return found if several else found[0]

    def checked(self, choices: Mapping[str, Any]) -> Any:
        """The method's choices.

        Raises:
            TypeError: for one that does not exist.
            ValueError: for one that is out of range.
        """
        possible = [each.name for each in fields(self.choices)]
        unknown = [name for name in choices if name not in possible]
        if unknown:
            own = f"those of {type(self).__name__}: {', '.join(possible)}" if possible else "of its own it has none"
            raise TypeError(f"attribute() has no argument {unknown[0]!r}; beside those of every method, {own}")
        return self.choices(**choices)

    def _class_score(self, given: str | None) -> str:
        if given is None:
            return self.default_class_score
        if given not in CLASS_SCORES:
            raise ValueError(f"class_score={given!r} is unknown; possible: {', '.join(map(repr, CLASS_SCORES))}")
        if given not in self.class_scores:
            raise ValueError(
                f"class_score={given!r}: {type(self).__name__} shares out the class's logit; leave class_score out"
            )
        return given

    def _layers(self, layer: Layers | None, question: Question, view: TransformerView) -> tuple[list[int], bool]:
        if isinstance(question, ClassQuestion):
            return [len(view.blocks)], False
        return layer_numbers(-1 if layer is None else layer, self.model, view.blocks)

    def _map(self, asked: Asked, presentation: Presentation) -> Tensor:
        """The map of one layer."""
        tensor = asked.runs.inputs
        with torch.inference_mode(False), torch.enable_grad():
            pixels = self.pixels(asked) if presentation.of_pixels(tensor) and asked.layer else None
            if pixels is not None:
                return presentation.finish_pixels(pixels.detach(), asked.question.single)
            rows = self.rows_of(asked)
        own, single = asked.question.own(), asked.question.single
        maps = presentation.finish(rows, own, asked.runs.layout, tensor, single)
        if isinstance(asked.question, LatentQuestion) and not maps.any():
            warn_caller(
                f"the map is zero: at layer {asked.layer} the explained token holds nothing beside itself, as at the "
                "embedding, for the first token of a causal model, or for padding; "
                'self_token="keep" shows its own entry'
            )
        return maps

    def rows_of(self, asked: Asked) -> Tensor:
        """Rows [B, T, n] without a graph; at the embedding every token is all that it holds."""
        with torch.inference_mode(False), torch.enable_grad():
            if not asked.layer:
                return asked.explained().rows()
            needs = self.needs(asked.layer, asked.choices)
            attended = all(isinstance(need.kind, Attended) for need in needs)
            if isinstance(asked.question, LatentQuestion) and self.needs_class and attended:
                left = asked.run(needs[0].kind).trace.left[asked.layer]
                warn_if_constant(left, asked.question.scalar, asked.layer)
            return self.rows(asked).detach()


def attribute_all(
    methods: Mapping[str, TokenAttribution], inputs: Tensor, target: Any = None, *,
    presentation: Presentation | None = None,
) -> Iterator[tuple[str, Tensor | Exception]]:  # fmt: skip
    """Explain a class by several methods from one run of the model for each kind of run that they share.

    One method after another, so that each can be timed; a run is made when a method first needs it.

    Args:
        methods: name -> a method; all of one model, with the same blocks and head.
        inputs: as in :meth:`TokenAttribution.attribute`.
        target: as there.
        presentation: of the maps; a map as large as the image when None.

    Yields:
        (name, the map, or the ``ValueError`` or ``UnsupportedModelError`` with which a method refused the model).

    Example:
        >>> from captum_ultra import AttentionRollout, GenericAttention
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> model = ViTClassifier()
        >>> methods = {"gae": GenericAttention(model), "rollout": AttentionRollout(model)}
        >>> [(name, maps.shape) for name, maps in attribute_all(methods, torch.zeros(1, 3, 64, 64), target=1)]
        [('gae', torch.Size([1, 1, 64, 64])), ('rollout', torch.Size([1, 1, 64, 64]))]
    """
    first = next(iter(methods.values()))
    presentation = presentation or Presentation()
    tensor = checked_inputs(inputs, first.model)
    questions: dict[str, Question] = {
        name: ClassQuestion(first.model, target, first.head, each.default_class_score, required=each.needs_class)
        for name, each in methods.items()
    }
    presentation.check(tensor, next(iter(questions.values())).single)
    with half_precision_explained(first.model):
        view = first._views(tensor, None)
        choices = {each: each.checked({}) for each in methods.values()}
        runs = runs_for(choices, view, tensor, None, list(questions.values()), [len(view.blocks)])
        for name, each in methods.items():
            asked = Asked(runs, questions[name], len(view.blocks), choices[each])
            try:
                found: Tensor | Exception = each._map(asked, presentation)
            except (ValueError, UnsupportedModelError) as error:
                found = error
            yield name, found
