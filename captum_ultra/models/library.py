"""Importing the libraries that models come from, none of which is needed to import the package."""

from __future__ import annotations

import importlib
from types import ModuleType

__all__ = ["ModelNotAvailableError", "import_library"]


class ModelNotAvailableError(RuntimeError):
    """The model exists, but not here: its library is not installed, or its weights cannot be fetched."""


def import_library(module: str, *, extra: str) -> ModuleType:
    """Import a module of a library, or say how to install it.

    Args:
        module: the module, e.g. "torchvision.models".
        extra: the extra of this package that brings the library.

    Raises:
        ModelNotAvailableError: if the library is not installed.
        ModuleNotFoundError: if it is, and something that it needs is not.

    Example:
        >>> import_library("torch.nn", extra="none").__name__
        'torch.nn'
    """
    package = module.partition(".")[0]
    try:
        importlib.import_module(package)
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise  # the library is there, and something that it needs is not: its own message says so
        raise ModelNotAvailableError(
            f"{package} is not installed; pip install 'captum_ultra[{extra}]' brings it."
        ) from error
