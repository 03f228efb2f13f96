"""Pictures of explanations, and pages to explore them."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from captum_ultra.insights.explorer import Explorer, explore

__all__ = ["Explorer", "explore"]

_LAZY = {
    "Explorer": "captum_ultra.insights.explorer.explorer",
    "explore": "captum_ultra.insights.explorer.explore",
}


def __getattr__(name: str) -> Any:
    """Import what a name stands for when it is first needed."""
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
