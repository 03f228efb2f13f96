"""The server over HTTP: what it answers, whom it refuses, how it ends."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from captum_ultra.insights.features import Batch, ImageFeature
from captum_ultra.insights.visualizer import TokenVisualizer
from captum_ultra.insights.visualizer_samples import Samples
from captum_ultra.insights.visualizer_server import _LARGEST, _WAITING, VisualizerServer
from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig

ASKED = {"sample": 0, "model": 0, "method": "LatentTokenAttribution", "target": None, "arguments": {"token": "1 2"}}


def visualizer(**options: Any) -> TokenVisualizer:
    torch.manual_seed(0)
    model = ViTClassifier(ViTClassifierConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
    return TokenVisualizer(model, model.classes, ImageFeature("Photo"), [Batch(torch.rand(2, 3, 16, 16))], **options)


@pytest.fixture(scope="module")
def server() -> Iterator[VisualizerServer]:
    with visualizer().serve() as running:
        yield running


def ask(
    server: VisualizerServer, path: str, body: Any = None, *, method: str | None = None, **headers: Any
) -> tuple[int, http.client.HTTPMessage, bytes]:
    """Status, headers and body; a header that is None is left out."""
    data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    sent = {"Host": f"127.0.0.1:{server.port}", "Content-Type": "application/json" if data is not None else None}
    sent |= {name.replace("_", "-"): value for name, value in headers.items()}
    if data is not None:
        sent.setdefault("Content-Length", str(len(data)))
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    try:
        connection.putrequest(method or ("GET" if data is None else "POST"), path, skip_host=True)
        for name, value in sent.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(data)
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def explorer(server: VisualizerServer, **changes: Any) -> str:
    """The address of an explorer, as the page makes it."""
    key = json.loads(ask(server, "/config")[2])["key"]
    return "/explorer?" + "&".join(
        f"{name}={each}" for name, each in {"sample": 0, "model": 0, "key": key, **changes}.items()
    )


def refused(server: VisualizerServer, status: int, path: str, body: Any = None, **options: Any) -> str:
    found, _, answer = ask(server, path, body, **options)
    assert found == status, answer
    message: str = json.loads(answer)["error"]
    return message


def test_the_page_stands_alone_and_may_run_its_own_script_only(server: VisualizerServer) -> None:
    status, headers, body = ask(server, "/")
    nonces = set(re.findall(r"nonce-([\w-]+)", headers["Content-Security-Policy"]))
    assert status == 200 and len(nonces) == 1
    assert set(re.findall(r'nonce="([\w-]+)"', body.decode())) == nonces
    assert not re.search(r"https?://|@import|url\(", body.decode())
    assert ask(server, "/")[1]["Content-Security-Policy"] != headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff" and "default-src 'none'" in headers["Content-Security-Policy"]


def test_the_workflow_of_the_page(server: VisualizerServer) -> None:
    told = json.loads(ask(server, "/config")[2])
    samples = json.loads(ask(server, "/samples", {"start": 0, "count": 24})[2])
    assert len(samples["samples"]) == 2 and told["kind"] == "image"
    for method in told["methods"]:
        arguments = {name: each["value"] for name, each in method["parameters"].items()}
        asked = {**ASKED, "method": method["name"], "arguments": arguments, "sample": 1}
        status, _, answer = ask(server, "/explain", asked)
        assert status == 200 and json.loads(answer)["shape"] == [16, 16], method


def test_the_explorer_of_a_sample_can_reach_nothing(server: VisualizerServer) -> None:
    status, headers, body = ask(server, explorer(server, sample=1))
    assert status == 200 and body.startswith(b"<!doctype html>")
    assert headers["Content-Security-Policy"].startswith("sandbox allow-scripts; default-src 'none'")


@pytest.mark.parametrize(
    "changes", [{"sample": -1}, {"sample": "a"}, {"sample": "0&sample=1"}, {"path": "x"}, {"model": 99999999999},
                {"sample": 9}, {"sample": "%5Cxb2"}, {"sample": ""}],
)  # fmt: skip
def test_explorers_that_do_not_exist(server: VisualizerServer, changes: dict[str, Any]) -> None:
    assert refused(server, 400, explorer(server, **changes))


def test_explorers_are_computed_for_the_page_alone() -> None:
    """Where it is not this machine that asks, browsers do not say from which site an address was asked for."""
    with visualizer().serve(bind_all=True) as server:
        assert refused(server, 400, "/explorer")
        assert (
            refused(server, 400, "/explorer?sample=0&model=0")
            == "the numbers of a sample and a model are needed, and the key of the page"
        )
        assert refused(server, 403, explorer(server, key="x" * 22)) == "requests of other sites are not answered"
        assert ask(server, explorer(server))[0] == 200


@pytest.mark.parametrize("path", ["/../setup.cfg", "/%2e%2e/setup.cfg", "//etc/passwd", "/config/", "/samples", "/x"])
def test_there_are_no_other_addresses(server: VisualizerServer, path: str) -> None:
    assert refused(server, 404, path) == "there is no such address"


def test_posts_go_to_two_addresses_only(server: VisualizerServer) -> None:
    for path in ("/", "/config", "/explorer", "/explain?x=1"):
        assert refused(server, 404, path, ASKED)
    assert ask(server, "/", method="PUT")[0] == 501 and ask(server, "/", method="OPTIONS")[0] == 501


@pytest.mark.parametrize(
    "host", [None, "", "evil.example", "evil.example:80", "127.0.0.1.evil.example", "8.8.8.8", "localhost@evil.example",
             "localhost:80:80", "[::1", "localhost:x", "localhost/"],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/", "/config"])
def test_unknown_names_are_not_answered(server: VisualizerServer, host: str | None, path: str) -> None:
    """A site that lets its own name point here would be read by its script (DNS rebinding)."""
    assert refused(server, 403, path, Host=host) == "this server is not known under that name"


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "[::1]", "127.1.2.3"])
def test_this_machine_is_known_by_its_names(server: VisualizerServer, host: str) -> None:
    for name in (host, f"{host}:{server.port}"):
        assert ask(server, "/config", Host=name)[0] == 200


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1"])
def test_other_sites_are_not_answered(server: VisualizerServer, origin: str) -> None:
    assert refused(server, 403, "/explain", ASKED, Origin=origin) == "requests of other sites are not answered"


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("box.example", "https://box.example"), ("box.example:443", "https://box.example"),
        ("box.example:80", "http://box.example"), ("box.example:8443", "https://box.example:8443"),
        ("127.0.0.1:80", "https://box.example"), ("localhost:80", "https://BOX.example:8443"),
    ],
)  # fmt: skip
def test_a_proxy_that_speaks_tls(host: str, origin: str) -> None:
    """It asks in plain text, by its own name or by this server's; the browser says the origin that it sees."""
    with visualizer().serve(hosts=["box.example"]) as server:
        assert ask(server, "/explain", ASKED, Host=host, Origin=origin, Sec_Fetch_Site="same-origin")[0] == 200
        for other in ("https://evil.example", "https://box.example.evil.example", "https://localhost:1", "null"):
            assert refused(server, 403, "/explain", ASKED, Host=host, Origin=other)
        assert refused(server, 403, "/explain", ASKED, Host=host, Origin=origin, Sec_Fetch_Site="same-site")


def test_the_page_itself_is_answered(server: VisualizerServer) -> None:
    own = f"http://127.0.0.1:{server.port}"
    assert ask(server, "/explain", ASKED, Origin=own, Sec_Fetch_Site="same-origin")[0] == 200
    assert ask(server, "/", Sec_Fetch_Site="cross-site")[0] == 200  # a link to it
    for site in ("cross-site", "same-site"):
        assert refused(server, 403, explorer(server), Sec_Fetch_Site=site)
        assert refused(server, 403, "/explain", ASKED, Sec_Fetch_Site=site)


@pytest.mark.parametrize("kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_forms_of_other_sites_are_not_read(server: VisualizerServer, kind: str | None) -> None:
    """Browsers post these kinds across sites without asking first."""
    assert refused(server, 415, "/explain", ASKED, Content_Type=kind) == "a request must be application/json"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "must be JSON"), (b"{", "must be JSON"), (b"\xff\xfe", "must be JSON"), (b"[" * 60_000, "must be JSON"),
        (b"[]", "fields sample, model"), (b'{"sample": 0}', "fields sample, model"),
    ],
)  # fmt: skip
def test_requests_that_cannot_be_read(server: VisualizerServer, body: bytes, message: str) -> None:
    assert message in refused(server, 400, "/explain", body)


def test_lengths_are_bounded(server: VisualizerServer) -> None:
    assert "at most" in refused(server, 413, "/explain", b"{}", Content_Length=str(_LARGEST + 1))
    assert "at most" in refused(server, 413, "/explain", b"{}", Content_Length="9" * 40)
    for length in (None, "", "-1", "0x10", "²".encode("latin-1")):
        assert "length" in refused(server, 411, "/explain", b"{}", Content_Length=length)
    assert refused(server, 411, "/explain", b"0\r\n\r\n", Transfer_Encoding="chunked", Content_Length=None)


def test_errors_of_methods_are_told(server: VisualizerServer) -> None:
    asked = {**ASKED, "arguments": {"token": "0", "layer": 9}}
    assert "layer=9 does not exist" in refused(server, 400, "/explain", asked)


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, TypeError, FileNotFoundError])
@pytest.mark.parametrize("where", ["picture", "input", "model", "dataset"])
def test_errors_of_programs_are_not_told(
    kind: type[Exception], where: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = visualizer()

    def fail(*args: Any) -> Any:
        raise kind("a secret of /home/me")

    if where == "picture":
        shown.feature.visualization_transform = fail
    elif where == "input":
        shown.feature.input_transforms = [fail]
    elif where == "model":
        shown.models[0].register_forward_hook(fail)
    else:
        shown.samples = Samples(map(fail, "a"), shown.feature, 4)
    with shown.serve() as server:
        assert refused(server, 500, "/explain", ASKED) == "the computation failed; the log of the program says how"
    assert "a secret of /home/me" in caplog.text


def test_scores_that_are_no_numbers() -> None:
    def scores(logits: Tensor) -> Tensor:
        return torch.where(torch.arange(logits.shape[1]) == 1, torch.nan, logits).index_fill(
            1, torch.tensor(2), torch.inf
        )

    with visualizer(score_func=scores).serve() as server:
        status, _, body = ask(server, "/explain", ASKED)
        found = json.loads(body, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))["predictions"]
    assert status == 200 and len(found) == 4 and 1 not in [each["index"] for each in found]
    assert [each["index"] for each in found if each["score"] is None] == [2]


def test_maps_that_are_no_numbers() -> None:
    shown = visualizer()
    with torch.no_grad():
        shown.models[0].head.weight.fill_(torch.nan)
    with shown.serve() as server:
        asked = {**ASKED, "method": "AttCAT", "arguments": {}}
        assert "contain NaN" in refused(server, 400, "/explain", asked)


def test_one_thing_is_computed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    from captum_ultra.insights.explorer import Explorer

    write, running, most = Explorer.to_html, [0], [0]

    def slow(self: Explorer) -> str:
        running[0] += 1
        most[0] = max(most[0], running[0])
        time.sleep(0.5)
        running[0] -= 1
        return write(self)

    monkeypatch.setattr(Explorer, "to_html", slow)
    with visualizer().serve() as server:
        address = explorer(server)
        asking = [threading.Thread(target=ask, args=(server, address)) for _ in range(3)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join(60)
    assert most == [1]


def test_few_may_wait_for_their_turn() -> None:
    shown, begun, go = visualizer(), threading.Event(), threading.Event()

    def slow(original: Tensor) -> Tensor:
        begun.set()
        go.wait(60)
        return original

    shown.feature.visualization_transform = slow
    with shown.serve() as server:
        asking = [threading.Thread(target=ask, args=(server, "/explain", ASKED)) for _ in range(_WAITING)]
        for thread in asking:
            thread.start()
        assert begun.wait(60)
        statuses = []
        while 503 not in statuses and len(statuses) < 100:  # until all of them have come in
            with_time = threading.Thread(target=lambda: statuses.append(ask(server, "/explain", ASKED)[0]), daemon=True)
            with_time.start()
            with_time.join(0.3)
        assert 503 in statuses and ask(server, "/config")[0] == 200  # what needs no turn is answered
        go.set()
        for thread in asking:
            thread.join(60)


def test_it_listens_on_loopback_and_frees_its_port() -> None:
    shown = visualizer()
    server = shown.serve()
    assert server.running and server._http.server_address[0] == "127.0.0.1" and shown.serve() is server
    shown.stop()
    shown.stop()
    server.stop()
    assert not server.running and "stopped" in repr(server)
    with socket.socket() as tried:
        assert tried.connect_ex(("127.0.0.1", server.port)) != 0
    with shown.serve(port=server.port) as again:
        assert again is not server and again.port == server.port and ask(again, "/config")[0] == 200


def test_a_program_ends_while_something_is_computed() -> None:
    """A thread that computes when the interpreter goes would bring the program down."""
    code = """
import threading, time, torch
from captum_ultra.insights import Batch, ImageFeature, TokenVisualizer
from captum_ultra.models.vit_classifier import ViTClassifier, ViTClassifierConfig
from tests.insights.test_visualizer_server import ASKED, ask
begun = threading.Event()
def slow(original):
    begun.set()
    end = time.monotonic() + 1
    while time.monotonic() < end:
        torch.rand(300, 300) @ torch.rand(300, 300)
    return original
model = ViTClassifier(ViTClassifierConfig(image_size=16, dim=16, depth=2, heads=2)).eval()
shown = TokenVisualizer(model, [], ImageFeature("Photo", None, None, slow), [Batch(torch.rand(2, 3, 16, 16))])
server = shown.serve()
threading.Thread(target=ask, args=(server, "/explain", ASKED), daemon=True).start()
begun.wait(60)
"""
    process = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=Path(__file__).parents[2]
    )
    assert process.returncode == 0 and "terminate" not in process.stderr, process.stderr


def test_names_are_given_when_it_listens_everywhere() -> None:
    with visualizer().serve(bind_all=True, hosts=["box.lan"]) as server:
        for host in ("box.lan", f"BOX.lan:{server.port}", "192.168.1.7", socket.gethostname(), "localhost"):
            assert ask(server, "/config", Host=host)[0] == 200
        assert refused(server, 403, "/config", Host="evil.example")


def test_a_client_that_says_nothing_does_not_stop_the_others(server: VisualizerServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as silent:
        silent.sendall(b"POST /explain HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        assert ask(server, "/config")[0] == 200


def test_render_shows_the_page_in_a_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    display = pytest.importorskip("IPython.display")
    shown: list[Any] = []
    monkeypatch.setattr(display, "display", shown.append)
    made = visualizer()
    try:
        made.render(height=500)
        (frame,) = shown
        assert frame.src == made.serve().url and frame.height == 500
    finally:
        made.stop()
