"""A lane that says what a test has it say, over a real socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import numpy as np
import zmq

from qdec.bus.records import commit_dtype
from qdec.bus.wire import (
    Commit,
    FromClient,
    FromLane,
    Open,
    Opened,
    OpenedBody,
    Rounds,
    decode_from_client,
    encode,
)
from qdec.client import Patience, Stream, open_stream

PATIENT = Patience(answer_s=1.0, silence_s=0.05, dead_s=20.0, open_s=20.0, give_up_s=20.0)
RECORD_BYTES, COMMIT = 1, 10
_DTYPE = commit_dtype(1, 0)


class ScriptedLane:
    """One ROUTER; its clients open streams of windows of ten rounds."""

    def __init__(self, port: int = 0) -> None:
        """Bind a port of loopback; a free one if 0."""
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.bind(f"tcp://127.0.0.1:{port or '*'}")
        self.endpoint = self._socket.last_endpoint.decode().rstrip("\0")
        self.peer = b""
        self.epoch = 100

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        self._context.destroy(linger=0)

    def hears(self, timeout_s: float = 5.0) -> FromClient | None:
        """The next message of a client."""
        if not self._socket.poll(int(timeout_s * 1000)):
            return None
        self.peer, header, *_ = self._socket.recv_multipart()
        return decode_from_client(header)

    def hears_rounds(self, timeout_s: float = 0.2) -> list[int]:
        """First rounds of the frames that have come."""
        found = []
        while (message := self.hears(timeout_s)) is not None:
            if isinstance(message, Rounds):
                found.append(message.first_round)
        return found

    def says(self, message: FromLane, body: bytes | None = None) -> None:
        """Send a message to whom was heard last."""
        parts = [self.peer, encode(message)]
        self._socket.send_multipart(parts if body is None else [*parts, body])

    def agrees(self, request: int, next_round: int = 0, **more: object) -> None:
        """Say OPENED."""
        self.epoch += 1
        body = OpenedBody(
            stream="s",
            next_round=next_round,
            next_window=next_round // COMMIT,
            credit_until=10_000,
            record_bytes=RECORD_BYTES,
            shot_rounds=0,
            frame_bytes=1,
            seam_bytes=0,
            observables=1,
            window=COMMIT,
            commit=COMMIT,
            tier="matching",
            deadline_us=2000,
            ring_rounds=10_000,
            tail_in_one_frame=1,
            code_sha256="",
            cursor=str(next_round).encode(),
            notes=[],
        )
        self.says(Opened(request, 1, self.epoch, body.model_copy(update=more)))

    def commits(self, first: int, count: int) -> None:
        """Say COMMIT for windows; its cursor is the round behind them."""
        rows = np.zeros(count, _DTYPE)
        rows["window"] = np.arange(first, first + count)
        rows["first_round"] = COMMIT * rows["window"]
        rows["count"], rows["tier"] = COMMIT, 1
        end = COMMIT * (first + count)
        message = Commit(1, self.epoch, count, 10_000, end, str(end).encode())
        self.says(message, rows.tobytes())


@contextmanager
def opened(lane: ScriptedLane, patience: Patience = PATIENT) -> Iterator[Stream]:
    """A stream that the lane has agreed to."""

    def agree() -> None:
        message = lane.hears()
        assert isinstance(message, Open)
        lane.agrees(message.request)

    with in_background(agree):
        stream = open_stream(lane.endpoint, "s", patience=patience)
    try:
        yield stream
    finally:
        stream.close(wait=False)


@contextmanager
def in_background(work: Callable[[], None]) -> Iterator[threading.Thread]:
    """Have something done meanwhile; what it raises is raised here."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    yield thread
    thread.join(30)
    if failed:
        raise failed[0]


def polls(stream: Stream, seconds: float = 0.1) -> list[int]:
    """Windows that a stream hands over within some time."""
    until, found = time.monotonic() + seconds, []
    while time.monotonic() < until:
        for rows in stream.poll(0.01):
            found += rows["window"].tolist()
    return found
