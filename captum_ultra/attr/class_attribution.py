"""What all explanations of a class share: the interface, the run, the map."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, TypedDict

import torch
from captum.attr import GradientAttribution
from torch import Tensor, nn

from captum_ultra.adapters import Blocks, ModelViews, TokenLayout
from captum_ultra.adapters.class_scores import Head, check_head
from captum_ultra.attr.class_run import CLASS_SCORES, ClassRun, run_classified
from captum_ultra.attr.inputs import checked_inputs
from captum_ultra.attr.maps import check_map_options, finish_rows, min_max
from captum_ultra.attr.run import half_precision_explained
from captum_ultra.relevance import Course

__all__ = ["ClassAttribution", "ClassOptions"]


class ClassOptions(TypedDict, total=False):
    """Keyword arguments that ``attribute`` of every explanation of a class takes.

    Attributes:
        output: "input" (a map as large as the image, [B, 1, H, W]; for sequences the row), "tokens" (the row over
            all tokens, [B, N]), "patches" (without CLS and registers, [B, P]), or "channels" (the image's shape).
        interpolation: how maps are enlarged: "bilinear" (the default), "bicubic" or "nearest".
        rescale: whether every sample's map is min-max scaled to 0..1; maps are left as they are by default.
        class_score: the explained scalar: "logit", "probability" or "log_probability" of the class.
        readout: indices of the tokens where the class is read at the last layer; by default those on which the
            logits depend, in equal parts (CLS alone, where the model classifies by it).
        additional_forward_args: further arguments of the model, as in Captum; for transformers models an
            attention mask [B, N], or a dict of keyword arguments.
    """

    output: str
    interpolation: str
    rescale: bool
    class_score: str
    readout: Sequence[int] | None
    additional_forward_args: Any


class ClassAttribution(GradientAttribution):
    """Base of the explanations of a class; a method adds its rule.

    The model is explained in evaluation mode and left exactly as it was found.

    Args:
        model: a classifier of timm, transformers, open_clip or torchvision, or any module whose residual blocks
            run one self-attention each and which returns one score a class [B, K].
        blocks: the name of the container of the residual blocks, or the blocks in order; found when None.
        head: makes class scores [B, K] of what a model without classification head returns: a callable, or class
            embeddings [K, d] (zero-shot classification with CLIP), compared by cosine.

    Raises:
        TypeError: if ``model`` is not a module.
        UnsupportedModelError: for wrappers that hide the attention (compiled, DataParallel).
    """

    needs_class = True
    default_score = "logit"

    def __init__(self, model: nn.Module, blocks: Blocks | None = None, *, head: Head | None = None) -> None:
        self._views = ModelViews(model, blocks)
        check_head(head)
        GradientAttribution.__init__(self, model)
        self.model = model
        self.head = head

    def has_convergence_delta(self) -> bool:
        """False: relevance is not a decomposition of the model's output."""
        return False

    def _explain(
        self, inputs: Tensor | tuple[Tensor, ...], target: Any, options: ClassOptions,
        course: Callable[[int], Course], rows: Callable[[ClassRun], Tensor],
        pixels: Callable[[ClassRun], Tensor] | None = None,
    ) -> Tensor | tuple[Tensor, ...]:  # fmt: skip
        """Maps of a method.

        Args:
            inputs: as ``attribute`` takes them.
            target: as ``attribute`` takes it.
            options: as ``attribute`` takes them.
            course: what is followed, given the number of blocks.
            rows: from the run to relevance of the tokens [B, n].
            pixels: from the run to relevance of an image's pixels [B, C, H, W], where the method has it; then maps
                as large as the image are made of it and not of the tokens.
        """
        chosen = _checked(options, self.default_score)
        tensor = checked_inputs(inputs, self.model)
        check_map_options("keep", chosen["output"], chosen["interpolation"], tensor, single=True)
        extra = chosen["additional_forward_args"]
        with half_precision_explained(self.model):
            view = self._views(tensor, extra)
            run = run_classified(
                self.model, view, tensor, extra, course(len(view.blocks)), target=target, head=self.head,
                kind=chosen["class_score"], tokens=chosen["readout"], needs_class=self.needs_class,
            )  # fmt: skip
            of_pixels = pixels if tensor.dim() == 4 and chosen["output"] in ("input", "channels") else None
            with torch.inference_mode(False), torch.enable_grad():
                found = (of_pixels or rows)(run).detach()
        maps = _of_pixels(found, chosen) if of_pixels else _of_tokens(found, run.layout, tensor, chosen)
        maps = min_max(maps) if chosen["rescale"] else maps
        return (maps,) if isinstance(inputs, tuple) else maps


def _of_tokens(rows: Tensor, layout: TokenLayout, inputs: Tensor, chosen: ClassOptions) -> Tensor:
    """Relevance of tokens [B, n] as the map that was asked for."""
    first = torch.zeros(len(rows), 1, dtype=torch.long, device=rows.device)
    return finish_rows(
        rows[:, None], first, layout, inputs, "keep", chosen["output"], chosen["interpolation"], single=True
    )


def _of_pixels(relevance: Tensor, chosen: ClassOptions) -> Tensor:
    """Relevance of pixels [B, C, H, W] as the map that was asked for."""
    return (relevance if chosen["output"] == "channels" else relevance.sum(1, keepdim=True)).contiguous()


def _checked(options: ClassOptions, default_score: str) -> ClassOptions:
    """All options, with defaults.

    Raises:
        TypeError: for an argument that does not exist.
        ValueError: for a score that does not exist.
    """
    defaults = ClassOptions(
        output="input", interpolation="bilinear", rescale=False, class_score=default_score, readout=None,
        additional_forward_args=None,
    )  # fmt: skip
    unknown = [name for name in options if name not in defaults]
    if unknown:
        raise TypeError(
            f"attribute() has no argument {unknown[0]!r}; beside those of the method: {', '.join(defaults)}"
        )
    chosen = ClassOptions(**{**defaults, **options})
    if chosen["class_score"] not in CLASS_SCORES:
        raise ValueError(
            f"class_score={chosen['class_score']!r} is unknown; possible: {', '.join(map(repr, CLASS_SCORES))}"
        )
    readout = chosen["readout"]
    if readout is not None and (isinstance(readout, str | int) or not len(readout)):
        raise ValueError(f"readout must list at least one token, got {readout!r}")
    chosen["readout"] = None if readout is None else [operator.index(token) for token in readout]
    return chosen
