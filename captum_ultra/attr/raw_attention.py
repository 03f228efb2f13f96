"""Raw attention: what the class token of the last block looks at."""

from __future__ import annotations

from typing import Any

from captum.log import log_usage
from torch import Tensor
from typing_extensions import Unpack

from captum_ultra.attr.class_attribution import ClassAttribution, ClassOptions
from captum_ultra.attr.class_run import ClassRun
from captum_ultra.relevance import Course, pull_back, rollout

__all__ = ["RawAttention"]


class RawAttention(ClassAttribution):
    """The attention row of the class token in the last block, averaged over heads; gradients play no part.

    Arguments as in :class:`captum_ultra.attr.class_attribution.ClassAttribution`.

    Source:
        Caron et al., Emerging Properties in Self-Supervised Vision Transformers (ICCV 2021), figure 1.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> RawAttention(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), target=None).shape
        torch.Size([2, 1, 64, 64])
    """

    needs_class = False

    @log_usage(part_of_slo=True)
    def attribute(
        self, inputs: Tensor | tuple[Tensor, ...], target: Any = None,
        **options: Unpack[ClassOptions],
    ) -> Tensor | tuple[Tensor, ...]:  # fmt: skip
        """Explain a class.

        Args:
            inputs: images [B, C, H, W] normalised as the model expects, ids [B, N] or embeddings [B, N, d].
            target: has no influence on the map; checked where it is given. Models without a head need none.
            options: see :class:`captum_ultra.attr.class_attribution.ClassOptions`.

        Returns:
            [B, 1, H, W] for images, [B, N] for sequences, unless ``output`` says otherwise; at least float32.

        Raises:
            ValueError, TypeError: for arguments.
            UnsupportedModelError: for models that cannot be explained faithfully.
        """

        def course(depth: int) -> Course:
            return Course(rollout, [depth], first=depth - 1, separate=True)

        return self._explain(inputs, target, options, course, _rows)


def _rows(run: ClassRun) -> Tensor:
    return pull_back(run.trace, None, {run.depth: run.readout()})[run.depth - 1]
