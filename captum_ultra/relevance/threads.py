"""Hooks of one thread: a model may run in others while it is explained."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import wraps
from typing import Any

__all__ = ["in_this_thread"]


def in_this_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """A hook for modules that does nothing where another thread runs them.

    Example:
        >>> from torch import nn
        >>> seen, layer = [], nn.Identity()
        >>> _ = layer.register_forward_hook(in_this_thread(lambda module, args, output: seen.append(output)))
        >>> _ = layer(1)
        >>> other = threading.Thread(target=layer, args=(2,))
        >>> other.start(); other.join()
        >>> seen
        [1]
    """
    thread = threading.get_ident()

    @wraps(hook)
    def only_here(*args: Any) -> Any:
        return hook(*args) if threading.get_ident() == thread else None

    return only_here
