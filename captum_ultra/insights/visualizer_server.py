"""The server of a visualizer: loopback, five fixed addresses, small requests, a few at a time."""

from __future__ import annotations

import atexit
import json
import logging
import re
import secrets
from collections.abc import Callable, Sequence
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Lock, Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from captum_ultra.errors import UnsupportedModelError
from captum_ultra.insights.visualizer_doors import Doors, Refused
from captum_ultra.insights.visualizer_errors import RequestError
from captum_ultra.insights.visualizer_page import page
from captum_ultra.insights.visualizer_requests import configuration, explained, listed_samples

if TYPE_CHECKING:
    from typing_extensions import Self

    from captum_ultra.insights.visualizer import TokenVisualizer

__all__ = ["VisualizerServer"]

_LOG = logging.getLogger(__name__)
_LARGEST = 64 * 1024  # bytes of a request's body
_CONNECTIONS = 32  # at the same time
_WAITING = 8  # requests that compute or wait for their turn; further ones are sent away
_SILENCE = 15  # seconds after which a client that sends nothing is cut off

# Notebooks on this machine may show the page in a frame; no other site may.
_FRAMES = "frame-ancestors 'self' http://localhost:* http://127.0.0.1:*"
# The explorer is one file with its scripts inside: it may run them, and reach nothing.
_EXPLORER = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; connect-src data: blob:; frame-ancestors 'self'"
)


class VisualizerServer:
    """A running page; :meth:`captum_ultra.insights.visualizer.TokenVisualizer.serve` makes it.

    Attributes:
        url: where the page is.
        port: the port.
    """

    def __init__(
        self, visualizer: TokenVisualizer, *, port: int = 0, bind_all: bool = False, hosts: Sequence[str] = (),
        debug: bool = False,
    ) -> None:  # fmt: skip
        self._turns = _Turns()
        handler = partial(_Handler, visualizer, Doors(hosts, bind_all), self._turns, debug)
        self._http = _Server(("0.0.0.0" if bind_all else "127.0.0.1", port), handler)
        self.port: int = self._http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/"
        self._thread: Thread | None = None

    @property
    def running(self) -> bool:
        """Whether requests are answered."""
        return self._thread is not None

    def start(self) -> None:
        """Answer requests, in a thread that does not keep the program alive; the server ends with the program."""
        atexit.register(self.stop)
        self._thread = Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    def wait(self) -> None:
        """Return when the server is stopped; Ctrl+C stops it."""
        thread = self._thread
        try:
            while thread is not None and thread.is_alive():
                thread.join(0.5)
        except KeyboardInterrupt:
            self.stop()

    def stop(self) -> None:
        """Stop listening, free the port, and wait until a computation that runs is finished."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._http.shutdown()
            thread.join()
        self._http.server_close()
        self._turns.end()
        atexit.unregister(self.stop)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:  # fmt: skip
        self.stop()

    def __repr__(self) -> str:
        return f"VisualizerServer({self.url!r}{'' if self.running else ', stopped'})"


class _Turns:
    """One computation at a time, and few requests that wait for their turn."""

    def __init__(self) -> None:
        self._places = BoundedSemaphore(_WAITING)
        self._lock = Lock()
        self._ended = False

    def __call__(self, compute: Callable[[], Any]) -> Any:
        """The result of ``compute``, when its turn has come.

        Raises:
            Refused: if too many wait, or the server ends meanwhile.
        """
        if not self._places.acquire(blocking=False):
            raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the server is busy; try again")
        try:
            with self._lock:
                if self._ended:
                    raise Refused(HTTPStatus.SERVICE_UNAVAILABLE, "the server has ended")
                return compute()
        finally:
            self._places.release()

    def end(self) -> None:
        """Let nobody begin, and wait for the one that runs: a thread that computes must not outlive the program."""
        self._ended = True
        with self._lock:
            pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    allow_reuse_address = False

    def __init__(self, address: tuple[str, int], handler: Callable[..., BaseHTTPRequestHandler]) -> None:
        self._places = BoundedSemaphore(_CONNECTIONS)
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread for a connection, while there are few."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error of this program."""
        _LOG.debug("a connection ended early", exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server_version = "captum_ultra"
    sys_version = ""
    timeout = _SILENCE

    def __init__(self, visualizer: TokenVisualizer, doors: Doors, turns: _Turns, debug: bool, *args: Any) -> None:
        self._visualizer, self._doors, self._turns, self._debug = visualizer, doors, turns, debug
        super().__init__(*args)

    def do_GET(self) -> None:
        asked = urlsplit(self.path)
        answers: dict[str, Callable[[], None]] = {
            "/": self._page,
            "/config": lambda: self._json(configuration(self._visualizer) | {"key": self._doors.key}),
            "/explorer": lambda: self._explorer(asked.query),
        }
        self._answer(answers.get(asked.path), top=asked.path == "/")

    def do_POST(self) -> None:
        answers: dict[str, Callable[[], None]] = {
            "/samples": lambda: self._computed(lambda asked: listed_samples(self._visualizer, asked)),
            "/explain": lambda: self._computed(lambda asked: explained(self._visualizer, asked)),
        }
        self._answer(answers.get(self.path), top=False)

    def _answer(self, answer: Callable[[], None] | None, top: bool) -> None:
        """Check who asks, answer, and turn every error into one that says nothing about this machine."""
        try:
            fetch_site = self.headers.get("Sec-Fetch-Site")
            self._doors.check(self.headers.get("Host"), self.headers.get("Origin"), fetch_site, top)
            if answer is None:
                raise Refused(HTTPStatus.NOT_FOUND, "there is no such address")
            answer()
        except Refused as error:
            self._json({"error": str(error)}, error.status)
        except (RequestError, UnsupportedModelError) as error:  # they are written to be read by whoever asks
            self._json({"error": str(error)}, HTTPStatus.BAD_REQUEST)
        except (ConnectionError, TimeoutError):
            raise
        except Exception:
            _LOG.exception("the computation failed")
            self._json({"error": "the computation failed; the log of the program says how"}, HTTPStatus(500))

    def _page(self) -> None:
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; img-src data:; "
            f"connect-src 'self'; frame-src 'self'; base-uri 'none'; form-action 'none'; {_FRAMES}"
        )
        self._send(page(nonce).encode(), "text/html; charset=utf-8", policy=policy)

    def _explorer(self, query: str) -> None:
        match = re.fullmatch(r"sample=([0-9]{1,8})&model=([0-9]{1,8})&key=([\w-]+)", query, re.ASCII)
        if match is None:
            raise RequestError("the numbers of a sample and a model are needed, and the key of the page")
        self._doors.check_key(match[3])
        found = self._turns(lambda: self._visualizer.explorer(int(match[1]), int(match[2])).to_html())
        self._send(found.encode(), "text/html; charset=utf-8", policy=_EXPLORER)

    def _computed(self, compute: Callable[[Any], dict[str, Any]]) -> None:
        if self.headers.get_content_type() != "application/json":
            raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "a request must be application/json")
        asked = self._body()
        self._json(self._turns(lambda: compute(asked)))

    def _body(self) -> Any:
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") is not None or not (length.isascii() and length.isdigit()):
            raise Refused(HTTPStatus.LENGTH_REQUIRED, "a request must say its length")
        if len(length) > 9 or int(length) > _LARGEST:
            self.close_connection = True
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a request has at most {_LARGEST} bytes")
        try:
            return json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            raise Refused(HTTPStatus.BAD_REQUEST, "a request must be JSON") from None

    def _json(self, answer: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(answer, allow_nan=False).encode(), "application/json", status)

    def _send(
        self, body: bytes, kind: str, status: HTTPStatus = HTTPStatus.OK, policy: str = "default-src 'none'"
    ) -> None:
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind), ("Content-Length", str(len(body))), ("Content-Security-Policy", policy),
            ("X-Content-Type-Options", "nosniff"), ("Referrer-Policy", "no-referrer"), ("Cache-Control", "no-store"),
        ):  # fmt: skip
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        if self._debug:
            _LOG.warning("%s " + format, self.address_string(), *args)
