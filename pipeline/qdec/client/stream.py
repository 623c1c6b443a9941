"""A stream that one lane decodes, or a part of one: rounds out, commits in, breaks mended."""

from __future__ import annotations

import select
import time
from collections import deque

import numpy as np
import zmq

from qdec.bits import Bytes
from qdec.bus.records import commit_dtype, read_records
from qdec.bus.wire import (
    Close,
    Closed,
    Commit,
    Credit,
    Error,
    FromLane,
    Opened,
    OpenedBody,
    Pause,
    PauseReason,
    Ping,
    Proceed,
    Rounds,
    RoundsFlag,
    decode_from_lane,
    encode,
)
from qdec.client.door import Door, wire_code
from qdec.client.interface import Commits, Stream
from qdec.client.outbox import Frame, Outbox
from qdec.errors import DataError, Refused, WireCode, WireError

# Frames whose ends are remembered.
_FRAMES_KNOWN = 1024
# Errors that a resume mends; everything else is the caller's to know.
_MENDED_BY_RESUME = {WireCode.NOT_OPEN, WireCode.STALE_EPOCH}


def wait_readable(timeout_s: float, *socks: zmq.Socket[bytes]) -> None:
    """Wait for a message with a timeout in true microseconds; ZeroMQ's own poll knows only ms.

    The descriptors are edge-triggered, so what is already there is asked for first; the caller then
    receives until nothing is left.
    """
    for sock in socks:
        if int(sock.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
            return
    select.select([sock.fileno() for sock in socks], [], [], timeout_s)


class LaneStream(Stream):
    """What one lane decodes of a stream. Made by `open_stream`; see `Stream`."""

    def __init__(self, door: Door) -> None:
        """Closed as yet; see `connect`."""
        super().__init__()
        self._door = door
        self._patience = door.patience
        self._socket: zmq.Socket[bytes] | None = None
        self._outbox: Outbox | None = None
        self._cursor = b""
        self._seq = 0
        self._ends: dict[int, int] = {}
        self._replay_from_seq = 0
        self._credit_until = 0
        self._next_window = 0
        self._heard = 0.0
        self._pinged = False
        self._sent_at_ping = 0
        self._restraint = 1
        self._ready: deque[Commits] = deque()
        self._committed = 0
        self._paused: int | None = None
        self._resumes = 0

    @property
    def info(self) -> OpenedBody:
        """See `Stream.info`."""
        return self._info

    @property
    def paused(self) -> int | None:
        """See `Stream.paused`."""
        return self._paused

    @property
    def resumes(self) -> int:
        """See `Stream.resumes`."""
        return self._resumes

    # -- rounds out ----------------------------------------------------------------------------

    def send(
        self,
        records: Bytes,
        *,
        last: bool = False,
        lost: Bytes | None = None,
        t_send: int | None = None,
    ) -> None:
        """See `Stream.send`."""
        shape = (len(records), self._info.record_bytes)
        if records.dtype != np.uint8 or records.shape != shape or not len(records):
            raise DataError(f"records must be (n >= 1, {shape[1]}) uint8, not {records.shape}")
        if lost is not None and lost.shape != shape:
            raise DataError("lost must have the shape of records")
        stamp = time.monotonic_ns() if t_send is None else t_send
        self._box.append(records, lost, last, stamp)
        self._flush()

    @property
    def _box(self) -> Outbox:
        assert self._outbox is not None
        return self._outbox

    @property
    def committed(self) -> int:
        """See `Stream.committed`."""
        return self._committed

    @property
    def pending(self) -> int:
        """See `Stream.pending`."""
        return self._box.held

    @property
    def unsent(self) -> int:
        """See `Stream.unsent`."""
        return self._box.end - self._box.next

    @property
    def sent_until(self) -> int:
        """See `Stream.sent_until`."""
        return self._box.end

    @property
    def next_window(self) -> int:
        """See `Stream.next_window`."""
        return self._next_window

    def _flush(self) -> None:
        while self._socket is not None:
            frame = self._box.take(self._credit_until, self._patience.frame_rounds)
            if frame is None:
                return
            header, body = self._encode(frame)
            try:
                self._socket.send_multipart([header, body], zmq.NOBLOCK)
            except zmq.Again:
                self._box.rewind(frame.first)
                return

    def _encode(self, frame: Frame) -> tuple[bytes, bytes]:
        flags = RoundsFlag.LAST if frame.last else 0
        body = frame.records.tobytes()
        if frame.lost is not None:
            flags |= RoundsFlag.LOST
            body += frame.lost.tobytes()
        message = Rounds(
            self._handle,
            self._epoch,
            self._seq,
            frame.first,
            len(frame.records),
            flags,
            frame.t_send,
        )
        self._ends[self._seq] = frame.first + len(frame.records)
        if len(self._ends) > _FRAMES_KNOWN:
            del self._ends[next(iter(self._ends))]
        self._seq += 1
        return encode(message), body

    # -- commits in ----------------------------------------------------------------------------

    def poll(self, timeout_s: float = 0.0) -> list[Commits]:
        """See `Stream.poll`."""
        deadline = time.monotonic() + timeout_s
        self._receive(0)
        while not self._ready:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            self._receive(min(left, self._patience.silence_s))
        self._flush()
        taken = list(self._ready)
        self._ready.clear()
        return taken

    def _receive(self, timeout_s: float) -> None:
        """Handle what has arrived; wait up to `timeout_s` if nothing has."""
        if self._socket is None:  # it was given up before; the cursor is as good as then
            self.connect()
        sock = self.socket
        if timeout_s > 0:
            wait_readable(timeout_s, sock)
        while True:
            try:
                parts = sock.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            self._heard = time.monotonic()
            self._pinged = False
            self._handle_message(decode_from_lane(parts[0]), parts[1] if len(parts) > 1 else b"")
            if self._socket is not sock:  # it was resumed on another one
                return
        self._check_silence()

    def _handle_message(self, message: FromLane, body: bytes) -> None:
        match message:
            case Commit():
                if message.epoch == self._epoch:
                    self._on_commit(message, body)
            case Credit():
                if message.epoch == self._epoch:
                    self._on_credit(message)
            case Pause():
                self._paused = message.reason
                self.on_event(f"pause asked for: {_in_words(message.reason)}")
            case Proceed():
                self._paused = None
                self.on_event("may proceed")
            case Closed():
                if message.epoch == self._epoch:
                    self._resume("the lane closed the stream")
            case Error():
                self._on_error(message)
            case _:
                pass

    def _on_credit(self, message: Credit) -> None:
        self._credit_until = max(self._credit_until, message.credit_until)
        sent, self._sent_at_ping = self._sent_at_ping, 0
        if message.next_window > self._next_window:
            self._resume("commits were lost on the way")
        elif self._box.first <= message.next_round < sent:
            # What was sent before the question would be there, had it not been lost; and where
            # nothing comes behind it, the lane cannot notice.
            self.on_event(f"sending again from round {message.next_round}, which never came")
            self._box.rewind(message.next_round)

    def _on_commit(self, message: Commit, body: bytes) -> None:
        records = read_records(body, message.n, self._dtype)
        if not len(records):
            return
        first, last = int(records["window"][0]), int(records["window"][-1])
        if first > self._next_window:
            self._resume(f"windows {self._next_window}...{first - 1} were lost on the way")
            return
        if last < self._next_window:
            return  # said before: its cursor is older than ours, and its rounds are let go of
        self._restraint = 1
        self._cursor = message.cursor
        self._credit_until = max(self._credit_until, message.credit_until)
        self._box.release(message.retain_from)
        fresh = records[self._next_window - first :]
        self._next_window = last + 1
        self._committed = int(fresh["first_round"][-1]) + int(fresh["count"][-1])
        self._ready.append(fresh)

    def _on_error(self, error: Error) -> None:
        code = wire_code(error.code)
        if code in _MENDED_BY_RESUME:
            if error.epoch == self._epoch:
                self._resume(code.name.lower())
            return
        if error.epoch != self._epoch:
            return
        if code is WireCode.DUPLICATE and self._ends.get(error.reference, 0) <= error.detail:
            # All of that frame is there, and what is behind it under way, or the lane will miss it.
            if self._box.next < error.detail <= self._box.end:
                self._box.rewind(error.detail)
            return
        if code in (WireCode.GAP, WireCode.DUPLICATE, WireCode.NO_CREDIT):
            # Answers to frames that were already under way when we went back are stale.
            if error.reference >= self._replay_from_seq:
                self._replay_from_seq = self._seq
                self.on_event(f"{code.name}: sending again from round {error.detail}")
                self._box.rewind(error.detail)
            return
        raise Refused(code, error.message, error.detail)

    # -- breaks --------------------------------------------------------------------------------

    def _check_silence(self) -> None:
        quiet = time.monotonic() - self._heard
        if quiet < self._patience.silence_s or self._socket is None:
            return
        if not self._pinged:
            self._pinged = True
            # While nobody polled, nothing could be heard: that is no silence of the lane's.
            self._heard = time.monotonic() - self._patience.silence_s
            self._sent_at_ping = self._box.next
            try:
                self._socket.send(encode(Ping(self._handle, self._epoch)), zmq.NOBLOCK)
            except zmq.Again:
                self._resume("the lane does not read")
            return
        if quiet > self._patience.dead_s * self._restraint:
            # A lane that is alive but slow must not be asked over and over to begin again.
            self._restraint = min(64, 2 * self._restraint)
            self._resume("the lane is silent")

    def _begin(self, opened: Opened) -> None:
        self._handle, self._epoch = opened.handle, opened.epoch
        self._info = opened.body
        self._cursor = opened.body.cursor
        self._credit_until = opened.body.credit_until
        self._dtype = commit_dtype(opened.body.frame_bytes, opened.body.seam_bytes)
        self._heard = time.monotonic()
        self._pinged = False
        self._sent_at_ping = 0
        self._paused = None
        self._replay_from_seq = self._seq
        if self._outbox is None:
            self._outbox = Outbox(opened.body.next_round, opened.body.tail_in_one_frame)
            self._next_window = opened.body.next_window
            self._committed = opened.body.next_round
        else:
            self._outbox.rewind(opened.body.next_round)
            self._flush()

    def _resume(self, why: str) -> None:
        self._resumes += 1
        self.on_event(f"resuming: {why}")
        self._disconnect()
        self.connect()

    @property
    def socket(self) -> zmq.Socket[bytes]:
        """The present connection, to wait for."""
        assert self._socket is not None
        return self._socket

    def connect(self) -> None:
        """Open, or resume from the newest cursor; used by `open_stream` and after breaks.

        Raises:
            Refused: the service said no.
            ServiceUnavailable: nobody agreed in time.
        """
        self._socket, opened = self._door.open(self._cursor)
        self._begin(opened)

    def _disconnect(self) -> None:
        if self._socket is not None:
            self._socket.close(linger=0)
            self._socket = None

    def close(self, *, wait: bool = True) -> None:
        """See `Stream.close`."""
        sock = self._socket
        if sock is None:
            return
        if wait:
            deadline = time.monotonic() + 1.0
            try:
                sock.send(encode(Close(self._handle, self._epoch)), zmq.NOBLOCK)
                while (left := deadline - time.monotonic()) > 0 and sock.poll(int(left * 1000) + 1):
                    message = decode_from_lane(sock.recv_multipart()[0])
                    if isinstance(message, (Closed, Error)):
                        break
            except (zmq.ZMQError, WireError):
                pass
        self._disconnect()


def _in_words(reason: int) -> str:
    """The name of a `PauseReason`, or the number of one that a newer service has."""
    return PauseReason(reason).name.lower() if reason in set(PauseReason) else f"reason {reason}"
