"""Carries a refusal out of a running model."""

from __future__ import annotations

from captum_ultra.errors import UnsupportedModelError

__all__ = ["Refused"]


class Refused(BaseException):
    """Holds a refusal: being a TypeError, Python's operators would swallow it itself, and models would, too."""

    def __init__(self, error: UnsupportedModelError) -> None:
        super().__init__(str(error))
        self.error = error
