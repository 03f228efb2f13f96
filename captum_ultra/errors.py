"""Exceptions of the package, and warnings that point at its caller's line."""

import sys
import warnings

__all__ = ["MissingExtraError", "UnsupportedModelError", "warn_caller"]

# Captum wraps methods that it counts, so that its frames stand between the package's own.
_INSIDE = ("captum_ultra", "captum", "torch")


class UnsupportedModelError(TypeError):
    """The model cannot be explained faithfully; the message names the reason and the remedy.

    Raised instead of returning a wrong or empty map, for example when attention is windowed,
    when a kernel hides its attention, or when a block runs more than one attention.
    """


class MissingExtraError(ModuleNotFoundError):
    """A library is not installed that an extra of the package brings; the message names the extra."""


def warn_caller(message: str) -> None:
    """A ``UserWarning`` at the line, outside of this package and Captum, that asked for what is warned of."""
    level = 2
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] in _INSIDE:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
