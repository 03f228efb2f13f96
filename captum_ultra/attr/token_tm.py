"""TokenTM: how much the blocks transform every token, beside how they mix them."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from captum.log import log_usage
from torch import Tensor, nn
from typing_extensions import Unpack

from captum_ultra.adapters import Blocks
from captum_ultra.adapters.class_scores import Head
from captum_ultra.attr.class_attribution import ClassAttribution, ClassOptions
from captum_ultra.attr.class_run import ClassRun
from captum_ultra.attr.latent_token import LatentTokenAttribution
from captum_ultra.attr.scores import Score
from captum_ultra.attr.targets import Token
from captum_ultra.relevance import Course, TokenTransformation, TransformationWeights, gradient_weighted, pull_back

__all__ = ["TokenTM"]

_NECC_SCALES = ("one", "n")


class TokenTM(ClassAttribution):
    """Token Transformation Matters: relevance scaled by how attention and MLP change the tokens.

    With E the residual stream below a sublayer and E~ what the sublayer adds, per head in an attention:

    - C^0 = diag(||E^0_i||);
    - attention: ``U = I + mean_h[ relu(dA_h) * (A_h W_h) ]``, ``W_h = diag(||E~_hi|| / ||E_i|| * NECC_h(i))``;
    - feed-forward: ``U = I + W``;
    - ``C <- U C`` over all sublayers, and of it the row of the class token.

    NECC is the softmax over all tokens of the cosine of E_i and E~_i. The gradient is that of the class
    probability. E~ includes the scale of a LayerScale, and of the attention not the output projection's bias.

    Beyond the paper, the rule explains any latent token as well: give ``token`` and ``layer``.

    Arguments as in :class:`captum_ultra.attr.class_attribution.ClassAttribution`.

    Source:
        Wu, Duan, Kang, Tang and Yan, Token Transformation Matters: Towards Faithful Post-hoc Explanation for Vision
        Transformer (CVPR 2024), section 3.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> method = TokenTM(ViTClassifier())
        >>> method.attribute(torch.zeros(2, 3, 64, 64), target=1).shape
        torch.Size([2, 1, 64, 64])
        >>> method.attribute(torch.zeros(2, 3, 64, 64), token=(3, 4), layer=2).shape
        torch.Size([2, 1, 64, 64])
    """

    default_score = "probability"

    def __init__(self, model: nn.Module, blocks: Blocks | None = None, *, head: Head | None = None) -> None:
        super().__init__(model, blocks, head=head)
        self._blocks = blocks

    @log_usage(part_of_slo=True)
    def attribute(
        self, inputs: Tensor | tuple[Tensor, ...], target: Any = None, *, token: Token | None = None,
        layer: int | str | nn.Module | None = None, score: Score = "sum", normalize: bool = True,
        self_token: str = "max", aggregation: bool = True, length: bool = True, necc: bool = True,
        necc_scale: str = "one", first_blocks: int | None = None, internal_batch_size: int | None = None,
        show_progress: bool = False, **options: Unpack[ClassOptions],
    ) -> Tensor | tuple[Tensor, ...]:  # fmt: skip
        """Explain a class, or latent tokens.

        Args:
            inputs: images [B, C, H, W] normalised as the model expects, ids [B, N] or embeddings [B, N, d].
            target: the class, one for all or one a sample [B]; the predicted one when None. With ``layer``: per-sample
                tokens, as in :class:`captum_ultra.LatentTokenAttribution`.
            token: explain latent tokens in place of a class: which ones, as in
                :class:`captum_ultra.LatentTokenAttribution`.
            layer: of the latent tokens, the number of blocks passed; the last one where only ``token`` is given.
            score: of the latent tokens: "sum", "energy", weights, or a callable.
            normalize: of the latent tokens: divide each by its norm before scoring.
            self_token: of the latent tokens: what stands at a token's own position, "max", "keep" or "zero".
            aggregation: multiply over blocks; False takes the last block alone (table 6).
            length: whether the ratio of lengths is a factor of the weights ("L", table 6).
            necc: whether NECC is a factor of the weights (table 6). Without both factors this is GAE.
            necc_scale: "one", as the paper prints it: NECC sums to one over the tokens, so that it is small beside
                the identity; "n" multiplies it by the number of tokens.
            first_blocks: aggregate over the first so many blocks only (table 7); all when None.
            internal_batch_size: latent tokens pulled back at once; from a memory budget when None.
            show_progress: show a progress bar over the latent tokens.
            options: see :class:`captum_ultra.attr.class_attribution.ClassOptions`.

        Returns:
            [B, 1, H, W] for images, [B, N] for sequences, unless ``output`` says otherwise; at least float32. Several
            latent tokens give an axis T, as in :class:`captum_ultra.LatentTokenAttribution`.

        Raises:
            ValueError, TypeError: for arguments.
            UnsupportedModelError: for models that have no classes, or whose blocks hide how tokens change.
        """
        if necc_scale not in _NECC_SCALES:
            raise ValueError(f"necc_scale={necc_scale!r} is unknown; possible: 'one', 'n'")
        weights = TransformationWeights(length, necc, necc_scale)

        def course(depth: int) -> Course:
            return _course(depth, weights, aggregation, first_blocks)

        if token is None and layer is None:
            return self._explain(inputs, target, options, course, lambda run: _rows(run, first_blocks))
        if not aggregation or first_blocks is not None:
            raise ValueError("aggregation and first_blocks ablate explanations of a class; for latents choose a layer")
        return _LatentTokenTM(self.model, self._blocks, course).attribute(
            inputs, 0 if token is None else token, -1 if layer is None else layer, target=target, score=score,
            normalize=normalize, self_token=self_token, internal_batch_size=internal_batch_size,
            show_progress=show_progress, **_of_latents(options),
        )  # fmt: skip


class _LatentTokenTM(LatentTokenAttribution):
    """ULTra's interface and scores over TokenTM's rule."""

    def __init__(self, model: nn.Module, blocks: Blocks | None, course: Callable[[int], Course]) -> None:
        super().__init__(model, blocks)
        self._followed = course

    def _course(self, layer: int) -> Course:
        return self._followed(layer)


def _course(layer: int, weights: TransformationWeights, aggregation: bool, first_blocks: int | None) -> Course:
    """The course up to a layer; an observer is needed where tokens have weights."""
    if first_blocks is not None and not 1 <= operator.index(first_blocks) <= layer:
        raise ValueError(f"first_blocks={first_blocks}: the model has {layer} blocks, take 1..{layer}")
    if first_blocks is not None and not aggregation:
        raise ValueError("first_blocks aggregates, so it needs aggregation=True")
    observer = TokenTransformation(weights) if weights.length or weights.necc else None
    layers = [layer] if first_blocks is None else [first_blocks, layer]
    return Course(gradient_weighted, layers, first=0 if aggregation else layer - 1, observer=observer)


def _rows(run: ClassRun, first_blocks: int | None) -> Tensor:
    (row,) = pull_back(run.trace, run.scores(), {first_blocks or run.depth: run.readout()}).values()
    return row


def _of_latents(options: ClassOptions) -> dict[str, Any]:
    """The options that explanations of latent tokens have.

    Raises:
        TypeError: for one that only explanations of a class have.
    """
    shared = ("output", "interpolation", "additional_forward_args")
    others = [name for name in options if name not in shared]
    if others:
        raise TypeError(f"{others[0]!r} is an argument of explanations of a class; latent tokens have no such choice")
    return {"interpolation": "bilinear", **options}
