"""One open stream: rounds out, commits in, breaks mended."""

from __future__ import annotations

import select
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any

import numpy as np
import zmq
from numpy.typing import NDArray
from pydantic import ValidationError

from qdec.bits import Bytes
from qdec.bus.records import commit_dtype, read_records
from qdec.bus.wire import (
    Close,
    Closed,
    Commit,
    Credit,
    Error,
    FromLane,
    OpenBody,
    Opened,
    OpenedBody,
    Pause,
    Ping,
    Proceed,
    Rounds,
    RoundsFlag,
    decode_from_lane,
    encode,
)
from qdec.client.door import Door, wire_code
from qdec.client.options import CodeText, Patience
from qdec.client.outbox import Frame, Outbox
from qdec.errors import DataError, Refused, ServiceUnavailable, WireCode, WireError

Commits = NDArray[np.void]
# Errors that a resume mends; everything else is the caller's to know.
_MENDED_BY_RESUME = {WireCode.NOT_OPEN, WireCode.STALE_EPOCH}


def open_stream(
    endpoint: str,
    stream: str,
    *,
    code: CodeText | None = None,
    raw: bool = False,
    endless: bool | None = None,
    windows: str | None = None,
    tier: str | None = None,
    deadline_us: int | None = None,
    patience: Patience | None = None,
    context: zmq.Context[zmq.Socket[bytes]] | None = None,
) -> Stream:
    """Open a stream; wait until the lane has agreed to it.

    Args:
        endpoint: of any lane of the service; it redirects to the right one.
        stream: a name from the service's configuration, or with `code` a name of your own.
        code: a guest's code; options below are for guests only.
        raw: rounds will carry measurements instead of detectors.
        endless: no fixed shot length.
        windows: ``auto``, ``whole`` or ``W,C``.
        tier: ``matching`` or ``correlated``.
        deadline_us: from a window's last byte in the lane to its commit.
        patience: timeouts.
        context: a ZeroMQ context to share.

    Raises:
        Refused: the service said no; `wire` says why.
        ServiceUnavailable: nobody answered.
    """
    options: dict[str, Any] = {
        "raw": raw,
        "endless": endless,
        "windows": windows,
        "tier": tier,
        "deadline_us": deadline_us,
    }
    given = {k: v for k, v in options.items() if v is not None and v is not False}
    try:
        body = OpenBody(stream=stream, code=code.kind if code else "", **given)
    except ValidationError as error:  # the service would say the same
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise Refused(WireCode.BAD_OPTION, f"{where}: {first['msg']}") from None
    door = Door(endpoint, body, code, patience or Patience(), context or zmq.Context.instance())
    opened = Stream(door)
    opened.connect()
    return opened


def wait_readable(sock: zmq.Socket[bytes], timeout_s: float) -> None:
    """Wait for a message with a timeout in true microseconds; ZeroMQ's own poll knows only ms.

    The descriptor is edge-triggered, so what is already there is asked for first; the caller then
    receives until nothing is left.
    """
    if not int(sock.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
        select.select([sock.fileno()], [], [], timeout_s)


class Stream:
    """An open stream. Make it with `open_stream`.

    Attributes:
        info: what was agreed; `OpenedBody` documents the fields.
        paused: why the lane asked for a pause, or None.
        resumes: breaks survived.
        on_event: called with a line of text when something out of the ordinary happens.
    """

    info: OpenedBody

    def __init__(
        self,
        door: Door,
    ) -> None:
        """Use `open_stream`."""
        self._door = door
        self._patience = door.patience
        self._socket: zmq.Socket[bytes] | None = None
        self._outbox: Outbox | None = None
        self._cursor = b""
        self._seq = 0
        self._replay_from_seq = 0
        self._credit_until = 0
        self._next_window = 0
        self._heard = 0.0
        self._pinged = False
        self._restraint = 1
        self._ready: deque[Commits] = deque()
        self.paused: int | None = None
        self.resumes = 0
        self.on_event: Callable[[str], None] = lambda _line: None

    def __enter__(self) -> Stream:
        """The stream itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        """Close; on an error, without waiting for the lane."""
        self.close(wait=kind is None)

    # -- rounds out ----------------------------------------------------------------------------

    def send(
        self,
        records: Bytes,
        *,
        last: bool = False,
        lost: Bytes | None = None,
        t_send: int | None = None,
    ) -> None:
        """Queue the next rounds and send what credit allows; never blocks.

        Watch `pending` if the source can outrun the lane for long: rounds are held here.

        Args:
            records: ``(n, record_bytes)`` uint8, C-contiguous; must not change afterwards.
            last: the shot ends with these rounds (endless streams).
            lost: same shape, ones where a bit was lost.
            t_send: ns stamp that comes back with the commit (default: now, CLOCK_MONOTONIC).

        Raises:
            DataError: the shape is wrong.
        """
        shape = (len(records), self.info.record_bytes)
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
        """Rounds committed: every round before this one is covered by a commit."""
        return self._committed

    @property
    def pending(self) -> int:
        """Rounds held here because no commit covers them yet."""
        return self._box.held

    @property
    def unsent(self) -> int:
        """Rounds queued here that have not been sent for want of credit."""
        return self._box.end - self._box.next

    @property
    def sent_until(self) -> int:
        """One past the newest round given to `send`."""
        return self._box.end

    @property
    def next_window(self) -> int:
        """Number of the window that will be handed over next."""
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
        self._seq += 1
        return encode(message), body

    # -- commits in ----------------------------------------------------------------------------

    def poll(self, timeout_s: float = 0.0) -> list[Commits]:
        """Commits that have arrived, in order; waits up to `timeout_s` for the first.

        Returns:
            Structured arrays with the fields of `qdec.bus.records`, one row per window.

        Raises:
            Refused: the lane refused what was sent.
            ServiceUnavailable: the service has been away for too long.
        """
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

    def drain(self, until_round: int | None = None, timeout_s: float = 60.0) -> list[Commits]:
        """Wait until everything before `until_round` (default: all that was sent) is committed.

        Only complete windows are answered: for an endless stream, end it with ``last=True`` first.

        Raises:
            ServiceUnavailable: it took longer than `timeout_s`.
        """
        target = self._box.end if until_round is None else until_round
        deadline = time.monotonic() + timeout_s
        collected: list[Commits] = []
        while self._committed < target:
            if time.monotonic() > deadline:
                raise ServiceUnavailable(
                    f"rounds {self._committed}...{target} were not committed in {timeout_s} s"
                )
            collected += self.poll(0.05)
        return collected + self.poll(0)

    _committed = 0

    def _receive(self, timeout_s: float) -> None:
        """Handle what has arrived; wait up to `timeout_s` if nothing has."""
        assert self._socket is not None
        sock = self._socket
        if timeout_s > 0:
            wait_readable(sock, timeout_s)
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
                    self._credit_until = max(self._credit_until, message.credit_until)
                    if message.next_window > self._next_window:
                        self._resume("commits were lost on the way")
            case Pause():
                self.paused = message.reason
                self.on_event(f"pause asked for, reason {message.reason}")
            case Proceed():
                self.paused = None
            case Closed():
                if message.epoch == self._epoch:
                    self._resume("the lane closed the stream")
            case Error():
                self._on_error(message)
            case _:
                pass

    def _on_commit(self, message: Commit, body: bytes) -> None:
        records = read_records(body, message.n, self._dtype)
        first = int(records["window"][0])
        if first > self._next_window:
            self._resume(f"windows {self._next_window}...{first - 1} were lost on the way")
            return
        self._restraint = 1
        self._cursor = message.cursor
        self._credit_until = max(self._credit_until, message.credit_until)
        self._box.release(message.retain_from)
        fresh = records[self._next_window - first :]
        if len(fresh):
            self._next_window = int(fresh["window"][-1]) + 1
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
        self.info = opened.body
        self._cursor = opened.body.cursor
        self._credit_until = opened.body.credit_until
        self._dtype = commit_dtype(opened.body.frame_bytes, opened.body.seam_bytes)
        self._heard = time.monotonic()
        self._pinged = False
        self.paused = None
        self._replay_from_seq = self._seq
        if self._outbox is None:
            self._outbox = Outbox(opened.body.next_round, opened.body.tail_in_one_frame)
            self._next_window = opened.body.next_window
            self._committed = opened.body.next_round
        else:
            self._outbox.rewind(opened.body.next_round)
            self._flush()

    def _resume(self, why: str) -> None:
        self.resumes += 1
        self.on_event(f"resuming: {why}")
        self._disconnect()
        self.connect()

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
        """Close the stream; with `wait`, until the lane has confirmed (up to a second)."""
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
