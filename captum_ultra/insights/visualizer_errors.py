"""Errors that are for those who ask, beside all others, which are for those who run the program."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["RequestError", "about_the_request"]


class RequestError(ValueError):
    """What was asked for cannot be had; the message is for whoever asked, and says nothing about the machine."""


@contextmanager
def about_the_request() -> Iterator[None]:
    """Within it what the package refuses with a ValueError is about the request.

    Not so what the user's code, torch or Python itself raises, on which the package's methods run.

    Raises:
        RequestError: for a ValueError of the package.

    Example:
        >>> from captum_ultra.insights.method_forms import parse_token
        >>> with about_the_request():
        ...     parse_token("here")
        Traceback (most recent call last):
        ...
        captum_ultra.insights.visualizer_errors.RequestError: an index such as 17, or ...
    """
    try:
        yield
    except ValueError as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if not frame.f_globals.get("__name__", "").startswith("captum_ultra."):
            raise
        raise RequestError(str(error)) from error
