"""The messages of the bus: how they look, and nothing else. docs/protocol.md is the same in prose.

A message is a msgpack header and, where the message has one, a body of raw bits (OPEN may have a
third part, its round map). The header is a list
whose first two items are the protocol version and the message type. Frequent messages have the rest
of their fields in line; rare ones have a map. Every size is checked against a bound before anything
is made from it, and every integer against its range.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Any, Literal

import msgpack
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qdec.errors import WireCode, WireError

VERSION = 1
MAX_HEADER_BYTES = 8192
MAX_CURSOR_BYTES = 6144
MAX_PARTS = 3
STREAM_NAME = r"[A-Za-z0-9_.\-]{1,64}"
_MAX_INT = 1 << 62
_INTS = {int}


class Type(IntEnum):
    """Message types; below 64 from the client, from 64 on from the lane."""

    OPEN = 1
    RESUME = 2
    ROUNDS = 3
    CLOSE = 4
    PING = 5
    STATUS = 6
    OPENED = 64
    REDIRECT = 65
    COMMIT = 66
    CREDIT = 67
    PAUSE = 68
    PROCEED = 69
    CLOSED = 70
    STATUS_REPLY = 71
    ERROR = 72


class RoundsFlag(IntEnum):
    """Bits of the `flags` field of ROUNDS."""

    LAST = 1
    LOST = 2


class PauseReason(IntEnum):
    """Why a lane asks the controller to pause."""

    DRAINING = 1
    OVERLOAD = 2
    DEGRADED = 3


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_Count = Annotated[int, Field(ge=0, lt=_MAX_INT)]


class OpenBody(_Strict):
    """Fields of OPEN; with a cursor, of RESUME.

    Attributes:
        stream: name of the stream, of the service's configuration or (with `code`) a guest's.
        code: what the body holds: nothing, a DEM, or a circuit. Part 3 may hold a round map, one
            little-endian u32 per detector.
        raw: rounds carry measurements instead of detectors.
        endless: no fixed shot length; the code's repeating round is stretched.
        windows: ``auto``, ``whole`` or ``W,C``.
        tier: ``matching`` or ``correlated``.
        deadline_us: from a window's last byte in the lane to its commit.
        part: which part of a stream that several lanes share. A client that does not say gets no
            part of such a stream: it might take it for all of it.
        cursor: the newest cursor received (RESUME only).
    """

    stream: Annotated[str, Field(pattern=f"^{STREAM_NAME}$")]
    code: Literal["", "dem", "circuit"] = ""
    raw: bool = False
    endless: bool | None = None
    windows: Annotated[str, Field(max_length=32)] | None = None
    tier: Annotated[str, Field(max_length=32)] | None = None
    deadline_us: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    part: Annotated[int, Field(ge=0, lt=256)] | None = None
    cursor: Annotated[bytes, Field(max_length=MAX_CURSOR_BYTES)] = b""


class OpenedBody(BaseModel):
    """Fields of OPENED: everything a client needs to know about its stream.

    A lane of a later release may send more of them; an older client passes over what is new.

    Attributes:
        next_round: the round to send first.
        next_window: the number of the first window that will be committed.
        credit_until: rounds below this one may be sent.
        record_bytes: bytes of one round in ROUNDS.
        shot_rounds: rounds per shot; 0 if endless.
        frame_bytes, seam_bytes: sizes in commit records.
        observables: bits of a frame.
        window, commit: W and C in rounds; 0, 0 for whole shots.
        ring_rounds: most rounds that can be in flight.
        notes: what a person should know (fenced tier, conflicting edges).
        code_sha256: of the code and its prior.
        identity: what makes the answers, in 16 hexadecimal digits; each commit record carries it.
            Code, prior, tier, windows, networks and escalation enter into it.
        part: which part of the stream this is.
        parts: the endpoint of each part's lane; empty where one lane decodes the stream alone.
    """

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    stream: str
    next_round: _Count
    next_window: _Count
    credit_until: _Count
    record_bytes: _Count
    shot_rounds: _Count
    frame_bytes: _Count
    seam_bytes: _Count
    observables: _Count
    window: _Count
    commit: _Count
    tier: str
    deadline_us: _Count
    ring_rounds: _Count
    tail_in_one_frame: _Count
    code_sha256: str
    cursor: bytes
    notes: list[str]
    identity: Annotated[str, Field(pattern="^[0-9a-f]{16}$")] = "0" * 16
    part: _Count = 0
    parts: list[str] = []


@dataclass(frozen=True, slots=True)
class Open:
    """OPEN or RESUME: ``[1, type, request, map]`` + code text (+ round map)."""

    request: int
    body: OpenBody
    resume: bool


@dataclass(frozen=True, slots=True)
class Rounds:
    """ROUNDS: ``[1, 3, handle, epoch, seq, first_round, count, flags, t_send]`` + records."""

    handle: int
    epoch: int
    seq: int
    first_round: int
    count: int
    flags: int
    t_send: int


@dataclass(frozen=True, slots=True)
class Close:
    """CLOSE: ``[1, 4, handle, epoch]``."""

    handle: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Ping:
    """PING: ``[1, 5, handle, epoch]``; answered by CREDIT, or ERROR NOT_OPEN."""

    handle: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Status:
    """STATUS: ``[1, 6, request]``; answered by STATUS_REPLY."""

    request: int


@dataclass(frozen=True, slots=True)
class Opened:
    """OPENED: ``[1, 64, request, handle, epoch, map]``."""

    request: int
    handle: int
    epoch: int
    body: OpenedBody


@dataclass(frozen=True, slots=True)
class Redirect:
    """REDIRECT: ``[1, 65, request, endpoint]``: open the stream there instead."""

    request: int
    endpoint: str


@dataclass(frozen=True, slots=True)
class Commit:
    """COMMIT: ``[1, 66, handle, epoch, n, credit_until, retain_from, cursor]`` + n records."""

    handle: int
    epoch: int
    n: int
    credit_until: int
    retain_from: int
    cursor: bytes


@dataclass(frozen=True, slots=True)
class Credit:
    """CREDIT: ``[1, 67, handle, epoch, credit_until, next_round, next_window]``."""

    handle: int
    epoch: int
    credit_until: int
    next_round: int
    next_window: int


@dataclass(frozen=True, slots=True)
class Pause:
    """PAUSE: ``[1, 68, handle, epoch, reason]``: stop issuing rounds if you can."""

    handle: int
    epoch: int
    reason: int


@dataclass(frozen=True, slots=True)
class Proceed:
    """PROCEED: ``[1, 69, handle, epoch]``: the reason to pause is gone."""

    handle: int
    epoch: int


@dataclass(frozen=True, slots=True)
class Closed:
    """CLOSED: ``[1, 70, handle, epoch]``: the stream is no longer open."""

    handle: int
    epoch: int


@dataclass(frozen=True, slots=True)
class StatusReply:
    """STATUS_REPLY: ``[1, 71, request, map]``."""

    request: int
    body: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Error:
    """ERROR: ``[1, 72, handle, epoch, reference, code, message, detail]``.

    `reference` is the request of an OPEN, RESUME or STATUS, or the seq of a ROUNDS. `detail` is the
    round expected next for GAP, DUPLICATE and NO_CREDIT.
    """

    handle: int
    epoch: int
    reference: int
    code: int
    message: str
    detail: int


FromClient = Open | Rounds | Close | Ping | Status
FromLane = Opened | Redirect | Commit | Credit | Pause | Proceed | Closed | StatusReply | Error

# Field counts of the messages whose fields are all in line, behind version and type.
_INLINE: dict[int, type[Any]] = {
    Type.ROUNDS: Rounds,
    Type.CLOSE: Close,
    Type.PING: Ping,
    Type.STATUS: Status,
    Type.CREDIT: Credit,
    Type.PAUSE: Pause,
    Type.PROCEED: Proceed,
    Type.CLOSED: Closed,
}
_TYPE_OF: dict[type[Any], Type] = {cls: Type(number) for number, cls in _INLINE.items()}


def encode(message: FromClient | FromLane) -> bytes:
    """The header of any message."""
    kind = type(message)
    number = _TYPE_OF.get(kind)
    if number is not None:
        fields = [getattr(message, name) for name in kind.__slots__]
        return _packed([VERSION, number, *fields])
    head: list[Any]
    match message:
        case Commit():
            head = [
                Type.COMMIT,
                message.handle,
                message.epoch,
                message.n,
                message.credit_until,
                message.retain_from,
                message.cursor,
            ]
        case Open():
            fields_set = message.body.model_dump(exclude_defaults=True)
            kind_ = Type.RESUME if message.resume else Type.OPEN
            head = [kind_, message.request, fields_set]
        case Opened():
            head = [
                Type.OPENED,
                message.request,
                message.handle,
                message.epoch,
                message.body.model_dump(),
            ]
        case Redirect():
            head = [Type.REDIRECT, message.request, message.endpoint]
        case StatusReply():
            head = [Type.STATUS_REPLY, message.request, message.body]
        case Error():
            head = [
                Type.ERROR,
                message.handle,
                message.epoch,
                message.reference,
                int(message.code),
                message.message[:1024],
                message.detail,
            ]
        case _:
            raise TypeError(f"not a message: {message!r}")
    return _packed([VERSION, *head])


def _packed(head: list[Any]) -> bytes:
    packed: bytes = msgpack.packb(head)
    return packed


def decode_from_client(header: bytes) -> FromClient:
    """Parse a header that a client sent.

    Raises:
        WireError: BAD_FRAME, BAD_VERSION, BAD_TYPE, TOO_LARGE or BAD_OPTION.
    """
    kind, fields = _unpack(header, MAX_HEADER_BYTES)
    if kind == Type.ROUNDS:
        _expect_ints(kind, fields, 7)
        return Rounds(*fields)
    if kind in (Type.CLOSE, Type.PING):
        _expect_ints(kind, fields, 2)
        return Close(*fields) if kind == Type.CLOSE else Ping(*fields)
    if kind == Type.STATUS:
        _expect_ints(kind, fields, 1)
        return Status(*fields)
    if kind in (Type.OPEN, Type.RESUME):
        if len(fields) != 2 or type(fields[1]) is not dict:
            raise WireError(WireCode.BAD_FRAME, "OPEN is [1, type, request, map]")
        _expect_ints(kind, fields[:1], 1)
        try:
            body = OpenBody.model_validate(fields[1])
        except ValidationError as error:
            raise WireError(WireCode.BAD_OPTION, _first_problem(error)) from None
        if bool(body.cursor) != (kind == Type.RESUME):
            raise WireError(WireCode.BAD_OPTION, "a cursor belongs in RESUME, and only there")
        return Open(fields[0], body, kind == Type.RESUME)
    raise WireError(WireCode.BAD_TYPE, f"message type {kind} is not one a client may send")


def decode_from_lane(header: bytes) -> FromLane:
    """Parse a header that a lane sent.

    Raises:
        WireError: as `decode_from_client`.
    """
    kind, fields = _unpack(header, 1 << 20)
    if kind == Type.COMMIT:
        _expect_ints(kind, fields[:5], 5)
        if len(fields) != 6 or type(fields[5]) is not bytes:
            raise WireError(WireCode.BAD_FRAME, "COMMIT ends with a cursor")
        return Commit(*fields)
    inline = _INLINE.get(kind)
    if inline is not None and kind >= Type.OPENED:
        _expect_ints(kind, fields, len(inline.__slots__))
        result: FromLane = inline(*fields)
        return result
    if kind == Type.OPENED and len(fields) == 4:
        _expect_ints(kind, fields[:3], 3)
        try:
            request, handle, epoch = fields[:3]
            return Opened(request, handle, epoch, OpenedBody.model_validate(fields[3]))
        except ValidationError as error:
            raise WireError(WireCode.BAD_FRAME, _first_problem(error)) from None
    if kind == Type.REDIRECT and len(fields) == 2 and type(fields[1]) is str:
        _expect_ints(kind, fields[:1], 1)
        return Redirect(*fields)
    if kind == Type.STATUS_REPLY and len(fields) == 2 and type(fields[1]) is dict:
        _expect_ints(kind, fields[:1], 1)
        return StatusReply(*fields)
    if kind == Type.ERROR and len(fields) == 6 and type(fields[4]) is str:
        _expect_ints(kind, [*fields[:4], fields[5]], 5)
        return Error(*fields)
    raise WireError(WireCode.BAD_TYPE, f"message type {kind} with {len(fields)} fields")


def _unpack(header: bytes, max_bytes: int) -> tuple[int, list[Any]]:
    if len(header) > max_bytes:
        raise WireError(
            WireCode.TOO_LARGE, f"a header of {len(header)} bytes; the limit is {max_bytes}"
        )
    try:
        items = msgpack.unpackb(
            header, use_list=True, raw=False, strict_map_key=True, max_ext_len=0
        )
    except Exception as error:  # msgpack raises a dozen unrelated types on hostile input
        raise WireError(WireCode.BAD_FRAME, f"the header is not msgpack: {error}"[:200]) from None
    if type(items) is not list or len(items) < 2:
        raise WireError(WireCode.BAD_FRAME, "the header is not a list [version, type, ...]")
    if items[0] != VERSION or type(items[0]) is not int:
        raise WireError(WireCode.BAD_VERSION, f"this service speaks version {VERSION} only")
    if type(items[1]) is not int:
        raise WireError(WireCode.BAD_TYPE, "the message type is not an integer")
    return items[1], items[2:]


def _expect_ints(kind: int, fields: list[Any], count: int) -> None:
    if len(fields) != count:
        raise WireError(
            WireCode.BAD_FRAME, f"message type {kind} has {count} fields, not {len(fields)}"
        )
    # Types first: what is not an integer may not be comparable with one.
    if set(map(type, fields)) != _INTS or min(fields) < 0 or max(fields) >= _MAX_INT:
        raise WireError(
            WireCode.BAD_FRAME, f"message type {kind}: a field is not an integer in [0, 2^62)"
        )


def _first_problem(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"]) or "message"
    return re.sub(r"\s+", " ", f"{where}: {first['msg']}")[:200]
