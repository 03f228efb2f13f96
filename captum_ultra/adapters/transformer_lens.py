"""TransformerLens: bridges and hooked transformers keep their residual blocks in ``blocks``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from captum_ultra.adapters.view import TransformerView, call_plainly
from captum_ultra.errors import UnsupportedModelError, warn_caller
from captum_ultra.relevance.threads import in_this_thread

__all__ = ["call", "hook_in", "hooks_of_others", "view"]


def view(model: nn.Module, inputs: Tensor, blocks: Sequence[nn.Module] | None = None) -> TransformerView | None:
    """A view of a TransformerLens model; None if it has no ``blocks``."""
    found = blocks if blocks is not None else getattr(model, "blocks", None)
    if found is None:
        return None
    return TransformerView(f"TransformerLens {type(model).__name__}", model, list(found), call)


def __getattr__(name: str) -> Any:
    """``relevance_hooks`` stood here once; its old name warns and leads on."""
    if name != "relevance_hooks":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn_caller(f"{__name__}.relevance_hooks is now captum_ultra.integrations.relevance_hooks")
    return getattr(import_module("captum_ultra.integrations"), name)


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
                handles.append(point.register_forward_hook(in_this_thread(watch.before), prepend=True))
                handles.append(point.register_forward_hook(in_this_thread(watch.after)))
        yield
    finally:
        for handle in handles:
            handle.remove()


class _PatternWatch:
    """Compares a pattern before and after the caller's hooks."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._pattern: Tensor | None = None

    def before(self, module: nn.Module, args: Any, pattern: Tensor) -> Tensor | None:
        # The softmax needs its output for its backward pass; a hook may write into the copy.
        self._pattern = pattern.detach()
        return pattern.clone()

    def after(self, module: nn.Module, args: Any, pattern: Tensor) -> None:
        before, self._pattern = self._pattern, None
        if before is None or pattern.shape != before.shape or not ((pattern == before) | (pattern == 0)).all():
            raise UnsupportedModelError(
                f"a hook on {self._name} changes attention probabilities to other values than zero, which "
                "LatentTokenAttribution does not follow: use captum_ultra.integrations.relevance_hooks, "
                "which explain the model as the hooks have changed it"
            )


def hooks_of_others(point: Any) -> bool:
    """Whether a hook point carries hooks that follow no relevance."""
    return any(hook_in(registered) is None for registered in point._forward_hooks.values())


def hook_in(registered: Any) -> Any:
    """The package's own hook inside the function that ``HookPoint.add_hook`` registered in its place, or None."""
    cells = (cell.cell_contents for cell in getattr(registered, "__closure__", None) or ())
    return next((each for each in cells if getattr(each, "follows_relevance", False)), None)
