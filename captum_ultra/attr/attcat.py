"""AttCAT: attentive class activation of every token, in every block."""

from __future__ import annotations

from typing import Any

import torch
from captum.log import log_usage
from torch import Tensor
from typing_extensions import Unpack

from captum_ultra.attr.class_attribution import ClassAttribution, ClassOptions
from captum_ultra.attr.class_run import ClassRun
from captum_ultra.relevance import Course, pull_back, rollout

__all__ = ["AttCAT"]


class AttCAT(ClassAttribution):
    """Sum over blocks of gradient times latent, weighted by the attention that a token receives; signed.

    ``sum_b (dy/dh_b * h_b).sum(channels) * mean(A_b)``, h_b the tokens that enter block b, the mean over heads and
    query rows, padding left out.

    Arguments as in :class:`captum_ultra.attr.class_attribution.ClassAttribution`.

    Source:
        Qiang et al., AttCAT: Explaining Transformers via Attentive Class Activation Tokens (NeurIPS 2022), eqs. 6 to 8.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> AttCAT(ViTClassifier()).attribute(torch.zeros(2, 3, 64, 64), target=1).shape
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
            UnsupportedModelError: for models that have no classes or cannot be explained faithfully.
        """

        def course(depth: int) -> Course:
            return Course(rollout, [depth], separate=True, cut="first")

        return self._explain(inputs, target, options, course, _rows)


def _rows(run: ClassRun) -> Tensor:
    blocks = range(run.depth)
    queries = run.queries()
    received = pull_back(run.trace, None, {block + 1: queries for block in blocks})
    gradients = run.trace.gradients(run.scores(), blocks)
    activations = [(gradients[block] * run.trace.latents[block]).sum(-1) * received[block] for block in blocks]
    return torch.stack(activations).sum(0)
