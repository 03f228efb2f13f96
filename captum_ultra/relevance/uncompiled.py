"""Compiled parts of a model run as they were written: a compiled graph hides its operations."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch._guards import TracingContext, tracing

__all__ = ["compiled_part", "uncompiled", "uncompiled_is_possible"]


def uncompiled() -> AbstractContextManager[Any]:
    """Within: whatever ``torch.compile`` made calls the original function, in this thread alone.

    Compiled functions step aside inside a kernel that is being traced, which is what this thread is told; the public
    ``torch.compiler.set_stance`` would tell all threads.

    Example:
        >>> doubled = torch.compile(lambda x: 2 * x, backend=lambda graph, inputs: print("compiled"))
        >>> with uncompiled():
        ...     doubled(torch.tensor(4))
        tensor(8)
    """
    return tracing(TracingContext(SimpleNamespace(in_kernel_invocation=True, shape_env=None)))  # type: ignore[arg-type]


def compiled_part(model: nn.Module) -> str | None:
    """The name of a module inside a model that is compiled, "" for the model itself; None if there is none."""
    for name, module in model.named_modules():
        forward = getattr(module.forward, "_torchdynamo_orig_callable", None)
        if forward is not None or getattr(module, "_compiled_call_impl", None) is not None:
            return name
    return None


@cache
def uncompiled_is_possible() -> bool:
    """Whether this version of torch lets compiled functions step aside; tried once."""

    def backend(graph: Any, inputs: list[Tensor]) -> Callable[..., Any]:
        raise NotImplementedError

    with uncompiled():
        try:
            torch.compile(lambda x: x + 1, backend=backend)(torch.zeros(1))
        except Exception:
            return False
    return True
