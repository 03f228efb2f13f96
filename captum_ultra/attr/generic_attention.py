"""Generic attention explainability: relevance weighted by the gradients of attention."""

from __future__ import annotations

from typing import Any

from captum.log import log_usage
from torch import Tensor
from typing_extensions import Unpack

from captum_ultra.attr.class_attribution import ClassAttribution, ClassOptions
from captum_ultra.attr.class_run import ClassRun, first_block
from captum_ultra.relevance import Course, gradient_weighted, pull_back

__all__ = ["GenericAttention"]


class GenericAttention(ClassAttribution):
    """GAE: R = I, then in every block ``R <- R + mean_h relu(dA_h * A_h) R``; the row of the class token.

    Arguments as in :class:`captum_ultra.attr.class_attribution.ClassAttribution`.

    Source:
        Chefer, Gur and Wolf, Generic Attention-model Explainability (ICCV 2021), eqs. 5 and 6.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> GenericAttention(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), target=1).shape
        torch.Size([2, 1, 64, 64])
    """

    @log_usage(part_of_slo=True)
    def attribute(
        self, inputs: Tensor | tuple[Tensor, ...], target: Any = None, *, start_layer: int = 0,
        **options: Unpack[ClassOptions],
    ) -> Tensor | tuple[Tensor, ...]:  # fmt: skip
        """Explain a class.

        Args:
            inputs: images [B, C, H, W] normalised as the model expects, ids [B, N] or embeddings [B, N, d].
            target: the class, one for all or one a sample [B]; the predicted one when None.
            start_layer: the first block of the product; -1 takes the last block alone, as the authors do for CLIP.
            options: see :class:`captum_ultra.attr.class_attribution.ClassOptions`.

        Returns:
            [B, 1, H, W] for images, [B, N] for sequences, unless ``output`` says otherwise; at least float32.

        Raises:
            ValueError, TypeError: for arguments.
            UnsupportedModelError: for models that have no classes or cannot be explained faithfully.
        """

        def course(depth: int) -> Course:
            return Course(gradient_weighted, [depth], first=first_block(start_layer, depth))

        return self._explain(inputs, target, options, course, _rows)


def _rows(run: ClassRun) -> Tensor:
    (row,) = pull_back(run.trace, run.scores(), {run.depth: run.readout()}).values()
    return row
