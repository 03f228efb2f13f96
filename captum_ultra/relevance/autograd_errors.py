"""Errors of autograd that are refusals: what in a model brings them about, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from captum_ultra.errors import UnsupportedModelError

__all__ = ["changed_in_place", "vectorised"]

_OF_VECTORISATION = ("vmap", "doesn't have storage", "functorch", "BatchedTensor", "match the broadcast shape")


@contextmanager
def vectorised() -> Iterator[None]:
    """Around a backward pass of many targets at once, in which code of the model may look at numbers.

    Raises:
        UnsupportedModelError: where code of the model or of its hooks needs the numbers of a single target.

    Example:
        >>> import torch
        >>> with vectorised():
        ...     torch.func.vmap(lambda x: x.item())(torch.ones(2))
        Traceback (most recent call last):
        captum_ultra.errors.UnsupportedModelError: ...internal_batch_size=1...
    """
    try:
        yield
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _OF_VECTORISATION):
            raise
        raise UnsupportedModelError(
            "the backward pass of the model, or a hook in it, cannot run for many targets at once: it looks at numbers "
            "(.item(), numpy, an if), changes tensors in place, or has an operation of its own. Give "
            f"internal_batch_size=1, which pulls back one target after another ({str(error).splitlines()[0]})"
        ) from error


@contextmanager
def changed_in_place() -> Iterator[None]:
    """Around a backward pass.

    Raises:
        UnsupportedModelError: where the model has changed a value that its backward pass needs.

    Example:
        >>> import torch
        >>> x = torch.ones(2, requires_grad=True)
        >>> y = x.exp()
        >>> with changed_in_place():
        ...     y.add_(1).sum().backward()
        Traceback (most recent call last):
        captum_ultra.errors.UnsupportedModelError: the model changes a value in place...
    """
    try:
        yield
    except RuntimeError as error:
        if "modified by an inplace operation" not in str(error):
            raise
        raise UnsupportedModelError(
            "the model changes a value in place that its backward pass needs: write the change (x += y) as an "
            f"operation that returns a new tensor (x = x + y). {str(error).partition(' Hint:')[0]}"
        ) from error
