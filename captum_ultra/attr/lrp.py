"""LRP: layer-wise relevance propagation from the class to the pixels."""

from __future__ import annotations

from typing import Any

from captum.log import log_usage
from torch import Tensor
from typing_extensions import Unpack

from captum_ultra.attr.class_attribution import ClassOptions
from captum_ultra.attr.class_relevance import RelevanceAttribution, check_logit, last_block_alone
from captum_ultra.attr.class_run import ClassRun
from captum_ultra.relevance.lrp import input_relevance

__all__ = ["LRP"]


class LRP(RelevanceAttribution):
    """Relevance shared out from the class's logit, operation by operation, down to the pixels; signed.

    Linear layers share by positive contributions (alpha = 1), residual sums and products of signals by what each
    brings, the first convolution by the rule for pixels (z^B); biases, position embeddings and other constants take
    none. What reaches a class token stays there: the pixels get the rest.

    ``output="input"`` is the pixels' relevance summed over colours, ``"channels"`` that of every colour. ``"tokens"``
    and ``"patches"``, and sequences, give what reaches the tokens that enter the first block, summed over channels.

    Arguments as in :class:`captum_ultra.attr.class_attribution.ClassAttribution`.

    Source:
        Bach et al. (PLOS ONE 2015), with the rules of Chefer et al. (CVPR 2021), section 3.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> LRP(ViTClassifier()).attribute(torch.rand(2, 3, 64, 64), target=1).shape
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
            options: see :class:`captum_ultra.attr.class_attribution.ClassOptions`;
                ``class_score`` is the logit, and ``interpolation`` has no influence on pixels.

        Returns:
            [B, 1, H, W] for images, [B, N] for sequences, unless ``output`` says otherwise; at least float32. Signed.

        Raises:
            ValueError, TypeError: for arguments, and for half precision.
            UnsupportedModelError: for models that have no classes, or an operation that no rule covers, by name.
        """
        check_logit(options, "LRP")
        return self._explain(inputs, target, options, last_block_alone, self._rows, self._pixels)

    def _rows(self, run: ClassRun) -> Tensor:
        return self._stream(run, 0).relevance.sum(-1)

    def _pixels(self, run: ClassRun) -> Tensor:
        return input_relevance(
            lambda x: run.view.call(run.view.model, x, run.extra), self.model, run.inputs, self._explained(run),
            batch_first=run.view.batch_first,
        )  # fmt: skip
