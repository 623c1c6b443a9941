"""Processes that do harm: clients that flood, do not read, come and go; hogs of time and memory.

``python -m qdec_tools.chaos.unkind WHAT ENDPOINT`` goes on until it is killed.
"""

from __future__ import annotations

import mmap
import sys
import time
from collections.abc import Callable
from itertools import count

import numpy as np
import zmq

from qdec.bus.wire import Open, OpenBody, Opened, Ping, Rounds, Status, decode_from_lane, encode
from qdec.lane.realtime import die_with_parent
from qdec_tools.chaos.patches import UNKIND

_FRAME = 50
_HOG_BYTES = 256 << 20
_PAGE = 4096


def _socket(endpoint: str) -> zmq.Socket[bytes]:
    sock: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.DEALER)
    sock.setsockopt(zmq.LINGER, 0)
    sock.connect(endpoint)
    return sock


def _opened(sock: zmq.Socket[bytes]) -> Opened | None:
    """Open the stream that is there for this; None if it is another's."""
    sock.send(encode(Open(1, OpenBody(stream=UNKIND.name, part=0), resume=False)))
    if not sock.poll(5000):
        return None
    message = decode_from_lane(sock.recv_multipart()[0])
    return message if isinstance(message, Opened) else None


def _rounds(opened: Opened, seq: int, first: int) -> list[bytes]:
    header = Rounds(opened.handle, opened.epoch, seq, first, _FRAME, 0, 0)
    return [encode(header), bytes(_FRAME * opened.body.record_bytes)]


def flood(endpoint: str) -> None:
    """Junk, questions, rounds of nobody's and rounds beyond credit, as fast as they go."""
    sock = _socket(endpoint)
    opened = _opened(sock)
    noise = np.random.default_rng(1)
    for n in count():
        mine = [] if opened is None else [_rounds(opened, n, 1 << 40), _rounds(opened, n, 0)]
        junk = noise.bytes(64)
        for parts in (*mine, [junk, junk], [encode(Status(n))], [encode(Ping(1, n))], [b""]):
            sock.send_multipart(parts)
        while sock.poll(0):
            sock.recv_multipart()


def deaf(endpoint: str) -> None:
    """Rounds that are all in order, and answers that are never read."""
    sock = _socket(endpoint)
    opened = _opened(sock)
    while opened is None:
        time.sleep(0.1)
        opened = _opened(sock)
    for n in count():
        sock.send_multipart(_rounds(opened, n, opened.body.next_round + n * _FRAME))
        time.sleep(0.002)


def reconnects(endpoint: str) -> None:
    """Open, send a little, vanish; again."""
    while True:
        sock = _socket(endpoint)
        opened = _opened(sock)
        if opened is not None:
            sock.send_multipart(_rounds(opened, 1, opened.body.next_round))
        sock.close(linger=0)
        time.sleep(0.005)


def burn(_: str) -> None:
    """All the time of the core that it is put on."""
    while True:
        pass


def hoard(_: str) -> None:
    """A lot of memory, touched again and again."""
    hoarded = mmap.mmap(-1, _HOG_BYTES)
    while True:
        for at in range(0, _HOG_BYTES, _PAGE):
            hoarded[at] = 1
        time.sleep(0.01)


WHAT: dict[str, Callable[[str], None]] = {
    one.__name__: one for one in (flood, deaf, reconnects, burn, hoard)
}


def command(what: str, endpoint: str, parent: int) -> list[str]:
    """The command that runs one of `WHAT`; it dies with its parent."""
    return [sys.executable, "-m", "qdec_tools.chaos.unkind", what, endpoint, str(parent)]


def main() -> None:
    """Be unkind."""
    what, endpoint, parent = sys.argv[1:]
    die_with_parent(int(parent))
    WHAT[what](endpoint)


if __name__ == "__main__":
    main()
