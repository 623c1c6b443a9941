"""A small HTTP server that cannot be made to hold much: GET of a few pages, nothing else.

Requests are answered by a bounded number of threads; a request has a bounded size and a bounded
time, however slowly it comes. Where all threads are taken, the connection that has lasted longest
makes room, so that slow ones keep nobody out. Connections are not kept.
"""

from __future__ import annotations

import contextlib
import io
import logging
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import TCPServer
from typing import Any

from qdec.security.rarely import Rarely

log = logging.getLogger("qdec.gateway")
_THREADS = 8
_MAX_REQUEST_BYTES = 16 << 10
# A read or write that waits, and a connection altogether.
_WAIT_S = 5.0
_CONNECTION_S = 10.0
_TURN_S = 0.1
# How long whoever comes waits for the one that makes room.
_ROOM_S = 0.1
_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Page:
    """What a request is answered with."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    content_type: str = _TEXT

    @classmethod
    def words(cls, text: str, status: HTTPStatus = HTTPStatus.OK) -> Page:
        """A line of text."""
        return cls(f"{text}\n".encode(), status)


# From the value of the request's Accept header to the page.
Pages = Mapping[str, Callable[[str], Page]]


class Server(TCPServer):
    """Serves pages; its owner calls `turn` in a loop."""

    allow_reuse_address = True
    request_queue_size = 64
    timeout = _TURN_S

    def __init__(self, host: str, port: int, pages: Pages) -> None:
        """Listen.

        Args:
            host: address or name; port 0 is one that is free.
            port: see `host`.
            pages: by path.

        Raises:
            OSError: it cannot be bound.
        """
        family, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        self.address_family = family
        self.pages = pages
        self._free = threading.BoundedSemaphore(_THREADS)
        self._lock = threading.Lock()
        self._since: dict[socket.socket, float] = {}
        self._ended: set[socket.socket] = set()
        self._rarely = Rarely(log)
        super().__init__((str(address[0]), int(address[1])), _Request)

    def turn(self) -> None:
        """Take a connection if one comes soon; end those that have lasted too long."""
        self.handle_request()
        now = time.monotonic()
        with self._lock:
            for connection, since in self._since.items():
                if now - since > _CONNECTION_S:
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)

    def _end_oldest(self) -> None:
        """End the connection that has lasted longest of those that were not ended yet."""
        with self._lock:
            for connection in self._since:
                if connection not in self._ended:
                    self._ended.add(connection)
                    with contextlib.suppress(OSError):
                        connection.shutdown(socket.SHUT_RDWR)
                    return

    @property
    def busy(self) -> int:
        """Connections being served."""
        return len(self._since)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread; close it if all are taken and none comes free."""
        if not self._free.acquire(blocking=False):
            self._rarely.warning("full", f"more than {_THREADS} connections: the oldest was ended")
            self._end_oldest()
            if not self._free.acquire(timeout=_ROOM_S):
                self.shutdown_request(request)
                return
        with self._lock:
            self._since[request] = time.monotonic()
        threading.Thread(target=self._serve, args=(request, client_address), daemon=True).start()

    def _serve(self, request: socket.socket, client_address: Any) -> None:
        try:
            self.finish_request(request, client_address)
        except OSError as error:
            log.debug("a connection broke: %s", error)
        except Exception:
            log.exception("a request broke something")
        finally:
            with self._lock:
                del self._since[request]
                self._ended.discard(request)
            self.shutdown_request(request)
            self._free.release()


class _Budget(io.BufferedIOBase):
    """Lines of another file, but only so much of it."""

    def __init__(self, file: io.BufferedIOBase, budget: int) -> None:
        super().__init__()
        self._file = file
        self.left = budget

    def readline(self, size: int | None = -1, /) -> bytes:
        limit = self.left if size is None or size < 0 else min(size, self.left)
        line = self._file.readline(limit)
        self.left -= len(line)
        return line

    def close(self) -> None:
        self._file.close()
        super().close()


class _Request(BaseHTTPRequestHandler):
    """One request, of HTTP/1.0 or 1.1; the answer is 1.0, so the connection ends with it."""

    server: Server
    timeout = _WAIT_S
    server_version = "qdec"
    sys_version = ""
    error_message_format = "%(code)d %(message)s\n"
    error_content_type = _TEXT

    def setup(self) -> None:
        super().setup()
        self.rfile = self._budget = _Budget(self.rfile, _MAX_REQUEST_BYTES)

    def do_GET(self) -> None:
        page = self._page()
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page.body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _page(self) -> Page:
        if self._budget.left <= 0:
            return Page.words("too large", HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        pages = self.server.pages
        page = pages.get(self.path.partition("?")[0])
        if page is None:
            return Page.words(f"there are {', '.join(pages)}", HTTPStatus.NOT_FOUND)
        # A folded header has line breaks in it.
        return page(" ".join((self.headers.get("Accept") or "").split()))

    def log_message(self, format: str, *args: Any) -> None:
        log.debug(format, *args)
