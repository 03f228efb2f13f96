"""The views of one model, one for each kind of input."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from captum_ultra.adapters.resolve import Blocks, check_model, resolve
from captum_ultra.adapters.view import TransformerView

__all__ = ["ModelViews"]


class ModelViews:
    """Finds the view of a model for an input; blocks that had to be discovered by a run are remembered.

    Args:
        model: any module.
        blocks: as in :func:`captum_ultra.adapters.resolve`.

    Raises:
        TypeError: if ``model`` is not a module.
        UnsupportedModelError: for wrappers that hide the attention (compiled, DataParallel).

    Example:
        >>> import torch
        >>> from captum_ultra.models.vit import ViTConfig, VisionTransformer
        >>> views = ModelViews(VisionTransformer(ViTConfig(dim=16, depth=2, heads=2)))
        >>> len(views(torch.zeros(1, 3, 64, 64)).blocks)
        2
    """

    def __init__(self, model: nn.Module, blocks: Blocks | None = None) -> None:
        check_model(model)
        self.model = model
        self._blocks = blocks
        self._discovered: dict[tuple[bool, int, bool], Blocks] = {}

    def __call__(self, inputs: Tensor, extra: Any = None) -> TransformerView:
        """The view for this kind of input.

        Args:
            inputs: the input that will be explained.
            extra: Captum's ``additional_forward_args``.
        """
        kind = (inputs.is_floating_point(), inputs.dim(), extra is None)
        view = resolve(self.model, inputs, extra, self._discovered.get(kind, self._blocks))
        if view.discovered:
            self._discovered[kind] = view.blocks
        return view
