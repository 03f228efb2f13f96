"""Conservative LRP: gradient times input, with attention and normalisation taken as linear maps."""

from __future__ import annotations

from typing import Any

from captum.log import log_usage
from torch import Tensor
from typing_extensions import Unpack

from captum_ultra.adapters.class_scores import class_scores
from captum_ultra.attr.class_attribution import ClassAttribution, ClassOptions
from captum_ultra.attr.class_relevance import last_block_alone
from captum_ultra.attr.class_run import ClassRun
from captum_ultra.relevance.lrp import conservative_relevance

__all__ = ["ConservativeLRP"]


class ConservativeLRP(ClassAttribution):
    """Gradient times input of the tokens that enter the first block, summed over channels; signed.

    In the graph of the gradient the attention probabilities and the standard deviations of normalisations are
    constants, which keeps relevance where the plain gradient loses it.

    Arguments as in :class:`captum_ultra.attr.class_attribution.ClassAttribution`.

    Source:
        Ali et al., XAI for Transformers: Better Explanations through Conservative Propagation (ICML 2022), section 4.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> ConservativeLRP(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), target=1).shape
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
            [B, 1, H, W] for images, [B, N] for sequences, unless ``output`` says otherwise; at least float32. Signed.

        Raises:
            ValueError, TypeError: for arguments.
            UnsupportedModelError: for models that have no classes, or a normalisation that cannot be followed.
        """
        return self._explain(inputs, target, options, last_block_alone, self._rows)

    def _rows(self, run: ClassRun) -> Tensor:
        def explained(output: Any) -> Tensor:
            return run.scores(class_scores(self.model, output, self.head))

        return conservative_relevance(
            run.again, self.model, run.view.blocks, explained, batch_first=run.view.batch_first
        )
