"""A model asked for nothing but class scores."""

from __future__ import annotations

from torch import Tensor, nn

from captum_ultra.adapters import ModelViews
from captum_ultra.adapters.class_scores import class_scores
from captum_ultra.relevance import explaining

__all__ = ["Classifier"]


class Classifier(nn.Module):
    """One score a class [B, K] of images [B, 3, H, W], whatever library the model is of; no gradients.

    Args:
        model: with a classification head.

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit_classifier import ViTClassifier
        >>> Classifier(ViTClassifier())(torch.zeros(2, 3, 64, 64)).shape
        torch.Size([2, 6])
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self._views = ModelViews(model)

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K].

        Raises:
            UnsupportedModelError: for models without a classification head.
        """
        with explaining(self.model, gradients=False):
            view = self._views(x)
            return class_scores(self.model, view.call(view.model, x, None)).detach()
