"""A relay of bytes between a client and a TCP endpoint, which can cut, tear, stall and delay."""

from __future__ import annotations

import socket
import struct
import threading
import time
from contextlib import suppress
from types import TracebackType
from typing import Self

_CHUNK = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: no goodbye, a reset


class Proxy:
    """In front of one endpoint; one thread per direction of each connection.

    Attributes:
        endpoint: where clients connect.
        delay_s: what every piece of data is held up for; may be changed at any time.
    """

    def __init__(self, endpoint: str) -> None:
        """Listen on a free port of loopback."""
        host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
        self._behind = host, int(port)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self.delay_s = 0.0
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._flows = threading.Event()
        self._flows.set()
        self._tear = False
        self._closed = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """The proxy itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """Let go of everything."""
        self._closed = True
        self._flows.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()
        self._thread.join(5)

    def cut(self) -> None:
        """Reset every connection."""
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for pair in pairs:
            _reset(pair)

    def tear(self) -> None:
        """Let half of the next piece of data through, and reset its connection."""
        self._tear = True

    def stall(self) -> None:
        """Let nothing through, and keep the connections, until `flow`."""
        self._flows.clear()

    def flow(self) -> None:
        """Undo `stall`."""
        self._flows.set()

    def _accept(self) -> None:
        while not self._closed:
            try:
                front, _ = self._listener.accept()
            except OSError:
                return
            try:
                back = socket.create_connection(self._behind, timeout=5)
            except OSError:  # nobody is there: the client is told so at once
                _reset((front, front))
                continue
            back.settimeout(None)
            pair = (front, back)
            for one in pair:
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.add(pair)
            for source, sink in (pair, pair[::-1]):
                threading.Thread(target=self._pump, args=(source, sink, pair), daemon=True).start()

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        pair: tuple[socket.socket, socket.socket],
    ) -> None:
        with suppress(OSError):
            while data := source.recv(_CHUNK):
                if self.delay_s:
                    time.sleep(self.delay_s)
                self._flows.wait()
                if self._tear and len(data) > 1:
                    self._tear = False
                    sink.sendall(data[: len(data) // 2])
                    break
                sink.sendall(data)
        with self._lock:
            self._pairs.discard(pair)
        _reset(pair)


def _reset(pair: tuple[socket.socket, socket.socket]) -> None:
    for one in pair:
        with suppress(OSError):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)  # whoever waits there wakes up
        with suppress(OSError):
            one.close()
