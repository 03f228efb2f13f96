"""Transformer attribution: attention weighted by its relevance and its gradient, through all blocks."""

from __future__ import annotations

from typing import Any

from captum.log import log_usage
from torch import Tensor
from typing_extensions import Unpack

from captum_ultra.attr.class_attribution import ClassOptions
from captum_ultra.attr.class_relevance import RelevanceAttribution
from captum_ultra.attr.class_run import ClassRun, first_block
from captum_ultra.relevance import Course, gradient_weighted, pull_back
from captum_ultra.relevance.passage import Cells

__all__ = ["TransformerAttribution"]


class TransformerAttribution(RelevanceAttribution):
    """The class token's row of the product of ``C_b = I + mean_h relu(dA_h * R_A)``, R_A the relevance of the map A_h.

    R_A is never stored: layer-wise relevance propagation leaves one array as large as the values in each block,
    from which the parts of R_A are made where they are multiplied.

    Arguments as in :class:`captum_ultra.attr.class_attribution.ClassAttribution`.

    Source:
        Chefer, Gur and Wolf, Transformer Interpretability Beyond Attention Visualization (CVPR 2021), section 3.3.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> TransformerAttribution(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), target=1).shape
        torch.Size([2, 1, 64, 64])
    """

    @log_usage(part_of_slo=True)
    def attribute(
        self, inputs: Tensor | tuple[Tensor, ...], target: Any = None, *, start_layer: int | None = None,
        **options: Unpack[ClassOptions],
    ) -> Tensor | tuple[Tensor, ...]:  # fmt: skip
        """Explain a class.

        Args:
            inputs: images [B, C, H, W] normalised as the model expects, ids [B, N] or embeddings [B, N, d].
            target: the class, one for all or one a sample [B]; the predicted one when None.
            start_layer: the first block of the product; 1 when None, as the authors evaluate (0 if there is one block).
            options: see :class:`captum_ultra.attr.class_attribution.ClassOptions`; relevance starts from the logit
                whatever ``class_score`` is, the gradient from what it names.

        Returns:
            [B, 1, H, W] for images, [B, N] for sequences, unless ``output`` says otherwise; at least float32.

        Raises:
            ValueError, TypeError: for arguments, and for half precision.
            UnsupportedModelError: for models that have no classes, or an operation that no rule covers, by name.
        """
        cells: dict[int, Cells] = {}

        def first(depth: int) -> int:
            return min(1, depth - 1) if start_layer is None else first_block(start_layer, depth)

        def course(depth: int) -> Course:
            return Course(gradient_weighted, [depth], first=first(depth), cells=cells)

        def rows(run: ClassRun) -> Tensor:
            readout = run.readout()
            cells.update(self._stream(run, first(run.depth)).maps)
            (row,) = pull_back(run.trace, run.scores(), {run.depth: readout}).values()
            return row

        return self._explain(inputs, target, options, course, rows)
