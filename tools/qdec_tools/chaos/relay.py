"""A relay of whole messages between clients and a lane, which can lose them and repeat them.

TCP does neither; other ways from the electronics to a lane do both.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from types import TracebackType
from typing import Self

import zmq

from qdec.bus.wire import Open, Opened, Redirect, decode_from_client, decode_from_lane
from qdec.errors import WireError

_TICK_MS = 20
# A client that is there asks after a tenth of a second whether the lane is.
_GONE_S = 2.0
_KEPT = 8


class Relay:
    """In front of one lane: a connection of its own to the lane for each client.

    Opens and their answers pass untouched: who loses those begins again anyway.

    Attributes:
        endpoint: where clients connect.
        lose, repeat: the share of messages that are lost, or come twice: half of those at once,
            half again some messages later. May be changed at any time.
    """

    def __init__(self, endpoint: str, seed: int) -> None:
        """Listen on a free port of loopback."""
        self._behind = endpoint
        self._random = random.Random(seed)
        self.lose = self.repeat = 0.0
        self._context = zmq.Context()
        self._front = self._context.socket(zmq.ROUTER)
        self._front.setsockopt(zmq.LINGER, 0)
        port = self._front.bind_to_random_port("tcp://127.0.0.1")
        self.endpoint = f"tcp://127.0.0.1:{port}"
        self._backs: dict[bytes, zmq.Socket[bytes]] = {}
        self._heard: dict[bytes, float] = {}
        self._past: dict[tuple[bytes, bool], deque[list[bytes]]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        """The relay itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """Let go of everything."""
        self._stopping.set()
        self._thread.join(5)

    def _run(self) -> None:
        poller = zmq.Poller()
        poller.register(self._front, zmq.POLLIN)
        while not self._stopping.is_set():
            for sock, _ in poller.poll(_TICK_MS):
                if sock is self._front:
                    self._from_client(poller)
                else:
                    self._from_lane(sock)
            self._forget(poller)
        for back in self._backs.values():
            back.close(linger=0)
        self._front.close(linger=0)
        self._context.term()

    def _from_client(self, poller: zmq.Poller) -> None:
        peer, *parts = self._front.recv_multipart()
        back = self._backs.get(peer)
        if back is None:
            back = self._backs[peer] = self._context.socket(zmq.DEALER)
            back.setsockopt(zmq.LINGER, 0)
            back.setsockopt(zmq.RECONNECT_IVL, 10)
            back.connect(self._behind)
            poller.register(back, zmq.POLLIN)
        self._heard[peer] = time.monotonic()
        for one in self._fate(peer, parts, from_client=True):
            back.send_multipart(one)

    def _from_lane(self, back: zmq.Socket[bytes]) -> None:
        peer = next((peer for peer, one in self._backs.items() if one is back), None)
        if peer is None:
            return
        parts = back.recv_multipart()
        for one in self._fate(peer, parts, from_client=False):
            self._front.send_multipart([peer, *one])

    def _fate(self, peer: bytes, parts: list[bytes], *, from_client: bool) -> list[list[bytes]]:
        """What comes out for a message."""
        if not (self.lose or self.repeat) or _opens(parts[0], from_client=from_client):
            return [parts]
        past = self._past.setdefault((peer, from_client), deque(maxlen=_KEPT))
        past.append(parts)
        luck = self._random.random()
        if luck < self.lose:
            return []
        if luck < self.lose + self.repeat:
            return [parts, self._random.choice([parts, past[0]])]
        return [parts]

    def _forget(self, poller: zmq.Poller) -> None:
        now = time.monotonic()
        for peer, heard in list(self._heard.items()):
            if now - heard > _GONE_S:
                del self._heard[peer]
                back = self._backs.pop(peer)
                poller.unregister(back)
                back.close(linger=0)
                for way in (True, False):
                    self._past.pop((peer, way), None)


def _opens(header: bytes, *, from_client: bool) -> bool:
    try:
        if from_client:
            return isinstance(decode_from_client(header), Open)
        return isinstance(decode_from_lane(header), Opened | Redirect)
    except WireError:
        return False
