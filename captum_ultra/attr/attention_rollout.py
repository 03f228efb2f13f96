"""Attention rollout: attention as the flow of information through residual connections."""

from __future__ import annotations

from typing import Any

from captum.log import log_usage
from torch import Tensor
from typing_extensions import Unpack

from captum_ultra.attr.class_attribution import ClassAttribution, ClassOptions
from captum_ultra.attr.class_run import ClassRun, first_block
from captum_ultra.relevance import Course, pull_back, rollout

__all__ = ["AttentionRollout"]


class AttentionRollout(ClassAttribution):
    """The row of the class token in the product of ``(A + I) / 2`` over blocks, A the mean of the heads.

    Rows of attention sum to one, so that a half is what normalising the rows of A + I comes to; where a model
    sends a share of its attention to a sink, that share is lost. Gradients and the class play no part.

    Arguments as in :class:`captum_ultra.attr.class_attribution.ClassAttribution`.

    Source:
        Abnar and Zuidema, Quantifying Attention Flow in Transformers (ACL 2020), section 3.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> AttentionRollout(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), start_layer=1).shape
        torch.Size([2, 1, 64, 64])
    """

    needs_class = False

    @log_usage(part_of_slo=True)
    def attribute(
        self, inputs: Tensor | tuple[Tensor, ...], target: Any = None, *, start_layer: int = 0,
        **options: Unpack[ClassOptions],
    ) -> Tensor | tuple[Tensor, ...]:  # fmt: skip
        """Explain a class.

        Args:
            inputs: images [B, C, H, W] normalised as the model expects, ids [B, N] or embeddings [B, N, d].
            target: has no influence on the map; checked where it is given. Models without a head need none.
            start_layer: the first block of the product; the evaluations of Chefer et al. leave out block 0 (1).
            options: see :class:`captum_ultra.attr.class_attribution.ClassOptions`.

        Returns:
            [B, 1, H, W] for images, [B, N] for sequences, unless ``output`` says otherwise; at least float32.

        Raises:
            ValueError, TypeError: for arguments.
            UnsupportedModelError: for models that cannot be explained faithfully.
        """

        def course(depth: int) -> Course:
            return Course(rollout, [depth], first=first_block(start_layer, depth))

        return self._explain(inputs, target, options, course, _rows)


def _rows(run: ClassRun) -> Tensor:
    ((first, row),) = pull_back(run.trace, None, {run.depth: run.readout()}).items()
    return row * 0.5 ** (run.depth - first)
