"""Grad-CAM on the attention of the last block."""

from __future__ import annotations

from typing import Any

from captum.log import log_usage
from torch import Tensor
from typing_extensions import Unpack

from captum_ultra.attr.class_attribution import ClassAttribution, ClassOptions
from captum_ultra.attr.class_run import ClassRun
from captum_ultra.relevance import Course, pull_back, row_gradient

__all__ = ["AttentionGradCam"]


class AttentionGradCam(ClassAttribution):
    """The class token's attention in the last block, every head weighted by its mean gradient over the patches.

    ``relu(mean_h(A_h * w_h))`` with ``w_h`` the mean of dA_h over the patches, padding left out, both in the row of
    the class token. Where the class is read from several tokens, every one of their rows has a weight of its own.

    Arguments as in :class:`captum_ultra.attr.class_attribution.ClassAttribution`.

    Source:
        Chefer, Gur and Wolf, Transformer Interpretability Beyond Attention Visualization (CVPR 2021), section 4;
        after Selvaraju et al., Grad-CAM (ICCV 2017).

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> AttentionGradCam(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), target=1).shape
        torch.Size([2, 1, 64, 64])
    """

    @log_usage(part_of_slo=True)
    def attribute(
        self, inputs: Tensor | tuple[Tensor, ...], target: Any = None,
        **options: Unpack[ClassOptions],
    ) -> Tensor | tuple[Tensor, ...]:  # fmt: skip
        """Explain a class.

        Args:
            inputs: images [B, C, H, W] normalised as the model expects, ids [B, N] or embeddings [B, N, d].
            target: the class, one for all or one a sample [B]; the predicted one when None.
            options: see :class:`captum_ultra.attr.class_attribution.ClassOptions`.

        Returns:
            [B, 1, H, W] for images, [B, N] for sequences, unless ``output`` says otherwise; at least float32.

        Raises:
            ValueError, TypeError: for arguments.
            UnsupportedModelError: for models that have no classes or cannot be explained faithfully.
        """
        columns: list[slice] = []

        def course(depth: int) -> Course:
            return Course(row_gradient(columns), [depth], first=depth - 1, separate=True)

        def rows(run: ClassRun) -> Tensor:
            columns.append(run.layout.patches)
            return pull_back(run.trace, run.scores(), {run.depth: run.readout()})[run.depth - 1].clamp(min=0)

        return self._explain(inputs, target, options, course, rows)
