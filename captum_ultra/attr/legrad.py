"""LeGrad: the gradient of every block's attention for the class as that block would read it."""

from __future__ import annotations

from typing import Any

import torch
from captum.log import log_usage
from torch import Tensor
from typing_extensions import Unpack

from captum_ultra.adapters.class_scores import class_scores
from captum_ultra.attr.class_attribution import ClassAttribution, ClassOptions
from captum_ultra.attr.class_run import ClassRun
from captum_ultra.relevance import Course, gradient_rows, pull_back, through_tail

__all__ = ["LeGrad"]


class LeGrad(ClassAttribution):
    """Mean over blocks of ``relu(dA)``, averaged over heads and query rows; the attention itself is left out, and so
    is padding.

    The explained scalar of a block is the class score that the model's own head gives to the block's output, and its
    gradient is taken with respect to the attention of that block alone.

    Arguments as in :class:`captum_ultra.attr.class_attribution.ClassAttribution`.

    Source:
        Bousselham et al., LeGrad: An Explainability Method for Vision Transformers via Feature Formation Sensitivity
        (2024), eqs. 4 to 8. The authors scale the map to 0..1: ``rescale=True``.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> LeGrad(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), target=1).shape
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

        def course(depth: int) -> Course:
            return Course(gradient_rows, [depth], separate=True, cut="every")

        return self._explain(inputs, target, options, course, self._rows)

    def _rows(self, run: ClassRun) -> Tensor:
        queries = run.queries()
        scores = run.scores()
        for layer in range(1, run.depth):
            output = through_tail(run.again, run.view.model, run.view.blocks, run.trace, layer)
            scores = scores + run.scores(class_scores(self.model, output, self.head))
        gradients = pull_back(run.trace, scores, dict.fromkeys(range(1, run.depth + 1), queries))
        return torch.stack(list(gradients.values())).mean(0) * run.seen()
