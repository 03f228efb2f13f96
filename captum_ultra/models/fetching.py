"""What may come over the network: quickly, or with the reason why not."""

from __future__ import annotations

import importlib
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from threading import Thread
from typing import Any, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from captum_ultra.models.library import ModelNotAvailableError

__all__ = ["fetch", "reachable"]

Loaded = TypeVar("Loaded")


def fetch(name: str, load: Callable[[], Loaded], spared: Iterable[str], *, hub: bool = True) -> Loaded:
    """Run what may need the network; where the hub is out of reach, its cache on this machine alone is asked.

    Args:
        name: of the model.
        load: loads it.
        spared: names of the models that need no network.
        hub: whether it comes from the hub of Hugging Face.

    Raises:
        ModelNotAvailableError: for the OSError or RuntimeError that the hubs raise when they are out of reach.
    """
    unreached = None
    try:
        with _cache_where_unreachable() if hub else nullcontext() as unreached:
            return load()
    except ModelNotAvailableError:
        raise
    except (OSError, RuntimeError) as error:
        reason = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if unreached:
            own = f"{unreached} cannot be reached, and its cache on this machine does not hold all of the model"
            # What the hub's client says of its cache and of a mode that was chosen here alone would be said twice.
            reason = own if "offline mode" in reason or "local cache" in reason else f"{own} ({reason})"
        *others, last = map(repr, spared)
        raise ModelNotAvailableError(
            f"cannot load {name!r}: {reason}. If this machine has no network, load the model once on one that has and "
            f"copy the library's cache; {', '.join(others)} and {last} need none."
        ) from error


def reachable(url: str, seconds: float = 5) -> bool:
    """Whether the server of an address, or the proxy that leads there, takes a connection within so many seconds.

    Example:
        >>> reachable("http://127.0.0.1:1")
        False
    """
    asked = urlsplit(url)
    proxy = getproxies().get(asked.scheme)
    if proxy and not proxy_bypass(asked.netloc):
        asked = urlsplit(proxy)
    port = asked.port or (443 if asked.scheme == "https" else 80)
    found: list[bool] = []

    def connect() -> None:
        try:
            socket.create_connection((asked.hostname or "", port), seconds).close()
        except OSError:
            return
        found.append(True)

    # In a thread, as nothing bounds how long a name is looked up.
    thread = Thread(target=connect, daemon=True)
    thread.start()
    thread.join(seconds)
    return bool(found)


@contextmanager
def _cache_where_unreachable() -> Iterator[str | None]:
    """Within it the hub's client asks its cache alone, if the hub is out of reach: it would try again for a minute.

    Yields:
        The host that is out of reach, or None.
    """
    try:
        constants = importlib.import_module("huggingface_hub.constants")
    except ModuleNotFoundError:
        yield None
        return
    if constants.HF_HUB_OFFLINE or reachable(constants.ENDPOINT):
        yield None
        return
    _offline(True)
    try:
        yield urlsplit(constants.ENDPOINT).hostname
    finally:
        _offline(False)


def _offline(on: bool) -> None:
    constants: Any = importlib.import_module("huggingface_hub.constants")
    constants.HF_HUB_OFFLINE = on
    # Before its version 1 the client keeps the sessions that it opened in the other mode.
    forget = getattr(importlib.import_module("huggingface_hub.utils"), "reset_sessions", None)
    if forget is not None:
        forget()
