"""Who may ask the server of a visualizer."""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable
from http import HTTPStatus
from urllib.parse import urlsplit

__all__ = ["Doors", "Refused"]

_ELSEWHERE = "requests of other sites are not answered"


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: HTTPStatus, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Doors:
    """Which requests come from the page itself.

    A site elsewhere can make a browser ask this server, under a name that it lets point here (DNS rebinding), by a
    form that it posts, or by the address of a picture that it shows. An address in numbers cannot be made to point
    elsewhere; names must be known. What browsers say about the site that asks is heard, but they say it only to this
    machine and over TLS: what is computed for an address alone needs the key, which no other site can read.

    Args:
        hosts: names under which browsers may reach the server, beside this machine's.
        everywhere: whether it listens beyond this machine.

    Attributes:
        key: what the page, and no other, knows.
    """

    def __init__(self, hosts: Iterable[str], everywhere: bool) -> None:
        self._given = {name.lower() for name in hosts}
        own = ("localhost", socket.gethostname()) if everywhere else ("localhost",)
        self._names = self._given | {name.lower() for name in own}
        self._everywhere = everywhere
        self.key = secrets.token_urlsafe(16)

    def check(self, host: str | None, origin: str | None, site: str | None, top: bool) -> None:
        """Raise unless host and origin are this server; ``top`` is a page that may be opened from anywhere."""
        if host is None or not self._known(host):
            raise Refused(HTTPStatus.FORBIDDEN, "this server is not known under that name")
        if origin is not None and not self._own(origin.lower(), host.lower()):
            raise Refused(HTTPStatus.FORBIDDEN, _ELSEWHERE)
        if not top and site not in (None, "same-origin", "none"):
            raise Refused(HTTPStatus.FORBIDDEN, _ELSEWHERE)

    def check_key(self, key: str) -> None:
        """Raise unless it is the page's."""
        if not secrets.compare_digest(key.encode(), self.key.encode()):
            raise Refused(HTTPStatus.FORBIDDEN, _ELSEWHERE)

    def _own(self, origin: str, host: str) -> bool:
        """Whether a page of this origin comes from here: directly, or through a proxy that speaks TLS for this server.

        Such a proxy passes the name on that the browser asked for, or puts its own address in its place: then the
        origin has one of the names that were given.
        """
        if origin in {f"http://{host.removesuffix(':80')}", f"https://{host.removesuffix(':443')}"}:
            return True
        try:
            asked = urlsplit(origin)
        except ValueError:
            return False
        return asked.scheme == "https" and asked.hostname in self._given

    def _known(self, host: str) -> bool:
        match = re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:\d{1,5})?", host.lower())
        if match is None:
            return False
        name = match[1].strip("[]")
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return name in self._names
        return self._everywhere or address.is_loopback
