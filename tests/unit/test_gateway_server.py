"""The HTTP server: a few pages for anybody, and nothing that a client does holds it up."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from qdec.gateway import server as http_server
from qdec.gateway.server import Page, Server


class Running:
    """A server in a thread, and clients of it."""

    def __init__(self) -> None:
        self.proceed = threading.Event()
        self.asked = threading.Event()
        pages = {
            "/echo": lambda accept: Page(accept.encode(), content_type="text/plain; x=y"),
            "/slow": self.slow,
            "/broken": self.broken,
            "/large": lambda _: Page(bytes(64 << 20)),
        }
        self.server = Server("127.0.0.1", 0, pages)
        self.port = int(self.server.server_address[1])
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.loop)
        self.thread.start()

    def loop(self) -> None:
        while not self.stopping.is_set():
            self.server.turn()

    def slow(self, _accept: str) -> Page:
        self.asked.set()
        self.proceed.wait(20)
        return Page.words("at last")

    def broken(self, _accept: str) -> Page:
        raise RuntimeError("a page that fails")

    def get(
        self, path: str, method: str = "GET", **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request(method, path, headers=headers)
            response = connection.getresponse()
            return response, response.read()
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """Whatever comes back until the connection ends."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as sock:
            sock.sendall(data)
            out = b""
            try:
                while chunk := sock.recv(4096):
                    out += chunk
            except ConnectionResetError:
                pass
            return out

    def close(self) -> None:
        self.proceed.set()
        self.stopping.set()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def web() -> Iterator[Running]:
    running = Running()
    yield running
    running.close()


def test_pages(web: Running) -> None:
    response, body = web.get("/echo?x=1", Accept="text/html")
    assert (response.status, body) == (200, b"text/html")
    assert response.headers["Content-Type"] == "text/plain; x=y"
    assert response.headers["Content-Length"] == "9"
    assert response.headers["Cache-Control"] == "no-store"
    response, body = web.get("/echo", method="HEAD", Accept="text/html")
    assert (response.status, body, response.headers["Content-Length"]) == (200, b"", "9")
    response, body = web.get("/nowhere")
    assert (response.status, body) == (404, b"there are /echo, /slow, /broken, /large\n")


def test_nothing_but_reading(web: Running) -> None:
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        response, _ = web.get("/echo", method=method)
        assert response.status == 501


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /echo HTTP/9.9\r\n\r\n", b"505"),
        (b"nonsense\r\n\r\n", b"400"),
        (b"GET http://[ HTTP/1.1\r\n\r\n", b"404"),
        (b"GET /echo HTTP/1.1\r\n" + 200 * b"A: b\r\n" + b"\r\n", b"431"),
        (b"\x00\xff\r\n\r\n", b"400"),
        (b"\r\n\r\n", b""),
        (b"", b""),
    ],
)
def test_bad_requests(web: Running, request_: bytes, status: bytes) -> None:
    if not request_:
        socket.create_connection(("127.0.0.1", web.port)).close()
    else:
        assert status in web.raw(request_)[:80]
    assert web.get("/echo", Accept="x")[1] == b"x"


def test_a_request_is_bounded(web: Running) -> None:
    """What comes beyond the bound is never read: no answer but an error can come of it."""
    head = b"GET /echo HTTP/1.1\r\n"
    for line in (b"A: " + 20_000 * b"x" + b"\r\n", 20 * (b"A: " + 1000 * b"x" + b"\r\n")):
        answer = web.raw(head + line + b"\r\n")
        assert not answer or b" 431 " in answer.splitlines()[0]
    assert web.get("/echo", Accept="x")[1] == b"x"


def test_a_header_cannot_break_into_the_answer(web: Running) -> None:
    answer = web.raw(b"GET /echo HTTP/1.1\r\nAccept: a\r\n\tSet-Cookie: b\r\n\r\n")
    assert answer.endswith(b"\r\n\r\na Set-Cookie: b")


def test_a_page_that_fails_takes_nothing_with_it(web: Running) -> None:
    assert web.raw(b"GET /broken HTTP/1.1\r\n\r\n") == b""
    assert web.get("/echo", Accept="x")[1] == b"x"


def test_threads_are_bounded_and_come_free_again(web: Running) -> None:
    with ExitStack() as stack:
        for _ in range(http_server._THREADS):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", web.port)))
            sock.sendall(b"GET /slow HTTP/1.1\r\n\r\n")
        while web.server.busy < http_server._THREADS:
            time.sleep(0.01)
        assert web.raw(b"GET /echo HTTP/1.1\r\n\r\n") == b""
        web.proceed.set()
    while web.server.busy:
        time.sleep(0.01)
    assert web.get("/echo", Accept="x")[1] == b"x"


def test_slow_connections_keep_nobody_out(web: Running) -> None:
    """Half requests, and answers that nobody reads, hold every thread; who comes is served."""
    with ExitStack() as stack:
        for i in range(3 * http_server._THREADS):
            sock = stack.enter_context(socket.create_connection(("127.0.0.1", web.port)))
            sock.sendall(b"GET /echo HTT" if i % 2 else b"GET /large HTTP/1.1\r\n\r\n")
        for _ in range(5):
            assert web.get("/echo", Accept="x")[1] == b"x"


def test_whoever_says_nothing_is_dropped(web: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "_CONNECTION_S", 0.2)
    with socket.create_connection(("127.0.0.1", web.port), timeout=20) as sock:
        sock.sendall(b"GET /echo HTT")
        assert sock.recv(100) == b""
