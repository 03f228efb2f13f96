"""Exceptions of the package."""


class UnsupportedModelError(TypeError):
    """The model cannot be explained faithfully; the message names the reason and the remedy.

    Raised instead of returning a wrong or empty map, for example when attention is windowed,
    when a kernel hides its attention, or when a block runs more than one attention.
    """


class MissingExtraError(ModuleNotFoundError):
    """A library is not installed that an extra of the package brings; the message names the extra."""
