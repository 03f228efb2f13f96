"""TransformerLens: bridges and hooked transformers keep their residual blocks in ``blocks``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from captum_ultra.adapters.lens_hooks import hooks_of_others
from captum_ultra.adapters.view import TransformerView, call_plainly
from captum_ultra.errors import UnsupportedModelError

if TYPE_CHECKING:
    from captum_ultra.attr.hooked import RelevanceHooks

__all__ = ["call", "relevance_hooks", "view"]


def view(model: nn.Module, inputs: Tensor, blocks: Sequence[nn.Module] | None = None) -> TransformerView | None:
    """A view of a TransformerLens model; None if it has no ``blocks``."""
    found = blocks if blocks is not None else getattr(model, "blocks", None)
    if found is None:
        return None
    return TransformerView(f"TransformerLens {type(model).__name__}", model, list(found), call)


def relevance_hooks(
    model: nn.Module, layer: int | str | nn.Module | Sequence[int | str | nn.Module] = -1, method: str = "ultra",
    **choices: Any,
) -> RelevanceHooks:  # fmt: skip
    """Hooks that follow relevance through a run of the caller's; see :class:`captum_ultra.attr.hooked.RelevanceHooks`.

    Args:
        model: a TransformerBridge, a HookedTransformer, or another HookedRootModule with their hook points.
        layer: number of blocks passed, 0 to L, negative from the end, a block or its name; or a list of several.
        method: a name of :data:`captum_ultra.attr.methods.METHODS`, of a method that is made of attention patterns.
        choices: of the method, such as ``start_layer``.

    Raises:
        ValueError: if there is no such layer or method.
        UnsupportedModelError: if the model lacks the hook points.

    Example:
        >>> from captum_ultra.models.torchvision_shim import ensure_torchvision_imports
        >>> _ = ensure_torchvision_imports()  # only where torchvision does not load beside a CPU build of torch
        >>> import torch
        >>> from transformer_lens.config import TransformerBridgeConfig
        >>> from transformer_lens.model_bridge import TransformerBridge
        >>> model = TransformerBridge.boot_native(
        ...     TransformerBridgeConfig(d_model=16, d_head=8, n_heads=2, n_layers=2, n_ctx=8, d_vocab=10, d_mlp=32,
        ...                             act_fn="gelu", architecture="TransformerLensNative", seed=0))
        >>> relevance = relevance_hooks(model, layer=2)
        >>> _ = model.run_with_hooks(torch.tensor([[1, 2, 3, 4]]), fwd_hooks=relevance.fwd_hooks)
        >>> relevance.rows(token=-1).shape
        torch.Size([1, 4])
    """
    # What scores, targets and self entries mean is said once, in attr, which builds on the adapters.
    from captum_ultra.attr.hooked import RelevanceHooks

    return RelevanceHooks(model, layer, method, **choices)


def call(model: nn.Module, inputs: Tensor, extra: Any) -> Any:
    """Run a model in which the caller's own hooks may stand on the attention patterns."""
    with _edited_patterns_checked(model):
        return call_plainly(model, inputs, extra)


@contextmanager
def _edited_patterns_checked(model: nn.Module) -> Iterator[None]:
    """Give hooks on patterns a copy to work on, and refuse edits that the engine would not see.

    The engine takes the probabilities where the softmax makes them. What a hook sets to zero
    afterwards has no gradient there, which is right; other edits would be explained as if they were not made.
    """
    points: dict[str, Any] = getattr(model, "hook_dict", {})
    handles = []
    try:
        for name, point in points.items():
            if name.endswith(".attn.hook_pattern") and hooks_of_others(point):
                watch = _PatternWatch(name)
                handles.append(point.register_forward_hook(watch.before, prepend=True))
                handles.append(point.register_forward_hook(watch.after))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _PatternWatch:
    """Compares a pattern before and after the caller's hooks."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pattern: Tensor | None = None

    def before(self, module: nn.Module, args: Any, pattern: Tensor) -> Tensor:
        # The softmax needs its output for its backward pass; a hook may write into the copy.
        self._pattern = pattern.detach()
        return pattern.clone()

    def after(self, module: nn.Module, args: Any, pattern: Tensor) -> None:
        before, self._pattern = self._pattern, None
        if before is None or pattern.shape != before.shape or not ((pattern == before) | (pattern == 0)).all():
            raise UnsupportedModelError(
                f"a hook on {self._name} changes attention probabilities to other values than zero, which "
                "LatentTokenAttribution does not follow: use captum_ultra.adapters.transformer_lens.relevance_hooks, "
                "which explain the model as the hooks have changed it"
            )
