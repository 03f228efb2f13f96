"""Where in a model the code that runs right now stands."""

from __future__ import annotations

import sys

from torch import nn

__all__ = ["running_module"]


def running_module(model: nn.Module) -> str:
    """Name and class of the innermost module of ``model`` whose code called this; its class alone if it has no name.

    Looked up among the callers' frames when an error is made, so that a run that succeeds pays nothing.

    Example:
        >>> class Where(nn.Module):
        ...     def forward(self):
        ...         return running_module(model)
        >>> model = nn.Sequential(nn.Identity(), Where())
        >>> model[1]()
        '1 (Where)'
    """
    frame = sys._getframe(1)
    while frame is not None:
        module = frame.f_locals.get("self")
        if isinstance(module, nn.Module):
            name = next((name for name, each in model.named_modules() if each is module), "")
            return f"{name} ({type(module).__name__})" if name else type(module).__name__
        frame = frame.f_back  # type: ignore[assignment]
    return type(model).__name__
