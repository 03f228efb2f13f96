"""Partial LRP: the relevance of the last block's attention."""

from __future__ import annotations

from typing import Any

import torch
from captum.log import log_usage
from torch import Tensor
from typing_extensions import Unpack

from captum_ultra.attr.class_attribution import ClassOptions
from captum_ultra.attr.class_relevance import RelevanceAttribution, check_logit, last_block_alone
from captum_ultra.attr.class_run import ClassRun

__all__ = ["PartialLRP"]


class PartialLRP(RelevanceAttribution):
    """The relevance R_A of the last attention map: its positive part, averaged over heads, at the class token's row.

    Relevance is propagated from the class's logit through the last block only; below it nothing is touched.

    Arguments as in :class:`captum_ultra.attr.class_attribution.ClassAttribution`.

    Source:
        Voita et al., Analyzing Multi-Head Self-Attention (ACL 2019), section 4; compared by Chefer et al. (CVPR 2021).

    Example:
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> PartialLRP(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), target=1).shape
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
            options: see :class:`captum_ultra.attr.class_attribution.ClassOptions`; ``class_score`` is the logit.

        Returns:
            [B, 1, H, W] for images, [B, N] for sequences, unless ``output`` says otherwise; at least float32.

        Raises:
            ValueError, TypeError: for arguments, and for half precision.
            UnsupportedModelError: for models that have no classes, or an operation that no rule covers, by name.
        """
        check_logit(options, "PartialLRP")
        return self._explain(inputs, target, options, last_block_alone, self._rows)

    def _rows(self, run: ClassRun) -> Tensor:
        weights = run.readout()
        maps = self._stream(run, run.depth - 1).maps[run.depth - 1]
        read = [token for token in range(weights.shape[1]) if weights[:, token].any()]
        rows = [weights[:, token, None] * maps.row(token).clamp(min=0).mean(1) for token in read]
        return torch.stack(rows).sum(0)
