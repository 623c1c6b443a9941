"""Messages that break the protocol: each has its answer, is counted, and harms nobody else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgpack
import numpy as np
import pytest

from helpers.lanes import Lane, Stream, code_of, same
from helpers.recordings import answers, bystander, recording
from qdec.bus.wire import MAX_HEADER_BYTES, VERSION, Close, Error, Ping, Status, Type, encode
from qdec.errors import WireCode

NAME = "endless"
REC = recording(NAME)
SENT = 12  # rounds of it that the victim sends before the bad message


def packed(*items: object) -> bytes:
    content: bytes = msgpack.packb(list(items))
    return content


@pytest.fixture
def victim() -> Iterator[Stream]:
    """A stream in progress. It goes on as if nothing had happened, and so does its neighbour."""
    lane = Lane()
    with bystander(lane):
        stream = REC.open(lane)
        assert stream.send(0, REC.records[:SENT]) is None
        taken = [stream.collect()]
        yield stream
        frames = [(a, b, last) for a, b, last in REC.frames(SENT, [])]
        for a, b, last in frames:
            assert stream.send(a, REC.records[a:b], last=last) is None
        same(np.concatenate([*taken, stream.collect()]), answers(NAME))


def refused(victim: Stream, parts: tuple[bytes, ...], code: WireCode, detail: int = 0) -> None:
    """The message is answered by one ERROR, to its sender, and counted once."""
    before = victim.lane.stats["errors"]
    ((reply, _),) = victim.lane.tell(victim.peer, *parts)
    code_of(code, reply)
    assert isinstance(reply, Error)
    assert reply.detail == detail
    assert reply.message
    assert victim.lane.stats["errors"] == before + 1
    assert victim.lane.core.sessions == 2


HEADERS: dict[str, tuple[bytes, WireCode]] = {
    "empty": (b"", WireCode.BAD_FRAME),
    "not msgpack": (b"\xc1", WireCode.BAD_FRAME),
    "text": (b"GET / HTTP/1.1\r\n\r\n", WireCode.BAD_FRAME),
    "two values": (packed(1, 6, 0) + b"\x00", WireCode.BAD_FRAME),
    "a map": (msgpack.packb({"version": 1}), WireCode.BAD_FRAME),
    "an integer": (msgpack.packb(1), WireCode.BAD_FRAME),
    "an empty list": (packed(), WireCode.BAD_FRAME),
    "version only": (packed(VERSION), WireCode.BAD_FRAME),
    "a list that is longer than its bytes": (b"\xdd\xff\xff\xff\xff\x01\x03", WireCode.BAD_FRAME),
    "nested a thousand deep": (b"\x91" * 4000 + b"\x01", WireCode.BAD_FRAME),
    "text that is not UTF-8": (b"\x93\x01\x06\xa1\xff", WireCode.BAD_FRAME),
    "extension": (b"\x93\x01\x06\xd4\x05\x00", WireCode.BAD_FRAME),
    "oversized": (packed(VERSION, Type.STATUS, "x" * MAX_HEADER_BYTES), WireCode.TOO_LARGE),
    "no version": (packed(None, Type.STATUS, 1), WireCode.BAD_VERSION),
    "version 0": (packed(0, Type.STATUS, 1), WireCode.BAD_VERSION),
    "next version": (packed(VERSION + 1, Type.STATUS, 1), WireCode.BAD_VERSION),
    "version as a float": (packed(1.0, Type.STATUS, 1), WireCode.BAD_VERSION),
    "version as true": (packed(True, Type.STATUS, 1), WireCode.BAD_VERSION),
    "type 0": (packed(VERSION, 0, 1), WireCode.BAD_TYPE),
    "unknown type": (packed(VERSION, 7, 1), WireCode.BAD_TYPE),
    "negative type": (packed(VERSION, -3, 1), WireCode.BAD_TYPE),
    "huge type": (packed(VERSION, 2**64 - 1, 1), WireCode.BAD_TYPE),
    "type as text": (packed(VERSION, "3", 1), WireCode.BAD_TYPE),
    "type as true": (packed(VERSION, True, 1), WireCode.BAD_TYPE),
    "a lane's message": (packed(VERSION, Type.COMMIT, 1, 1, 1, 1, 1, b""), WireCode.BAD_TYPE),
    "STATUS without request": (packed(VERSION, Type.STATUS), WireCode.BAD_FRAME),
    "STATUS with too much": (packed(VERSION, Type.STATUS, 1, 2), WireCode.BAD_FRAME),
    "PING without epoch": (packed(VERSION, Type.PING, 1), WireCode.BAD_FRAME),
    "CLOSE with too much": (packed(VERSION, Type.CLOSE, 1, 2, 3), WireCode.BAD_FRAME),
}


@pytest.mark.parametrize("name", HEADERS)
def test_bad_header(victim: Stream, name: str) -> None:
    header, code = HEADERS[name]
    refused(victim, (header,), code)
    refused(victim, (header, b"\0" * 8), code)


def test_truncated_header(victim: Stream) -> None:
    """Every prefix of a message that would be accepted."""
    header, body = victim.rounds(SENT, REC.records[SENT : SENT + 2])
    for n in range(len(header)):
        refused(victim, (header[:n], body), WireCode.BAD_FRAME)


NOT_AN_INT = [-1, -(2**63), 2**62, 2**64 - 1, 1.0, float("nan"), None, True, "1", b"1", [], {}]


@pytest.mark.parametrize("field", range(2, 9))
@pytest.mark.parametrize("value", NOT_AN_INT, ids=repr)
def test_field_out_of_range(victim: Stream, field: int, value: object) -> None:
    header, body = victim.rounds(SENT, REC.records[SENT : SENT + 2])
    items = msgpack.unpackb(header)
    items[field] = value
    refused(victim, (msgpack.packb(items), body), WireCode.BAD_FRAME)


def test_fields_missing_and_surplus(victim: Stream) -> None:
    header, body = victim.rounds(SENT, REC.records[SENT : SENT + 2])
    items = msgpack.unpackb(header)
    refused(victim, (msgpack.packb(items[:-1]), body), WireCode.BAD_FRAME)
    refused(victim, (msgpack.packb([*items, 0]), body), WireCode.BAD_FRAME)


def test_parts_missing_and_surplus(victim: Stream) -> None:
    header, body = victim.rounds(SENT, REC.records[SENT : SENT + 2])
    refused(victim, (header,), WireCode.BAD_FRAME)
    refused(victim, (header, body, b""), WireCode.BAD_FRAME)
    for message in (
        Ping(victim.handle, victim.epoch),
        Close(victim.handle, victim.epoch),
        Status(1),
    ):
        refused(victim, (encode(message), b""), WireCode.BAD_FRAME)


BODIES: dict[str, tuple[dict[str, int], Callable[[bytes], bytes], WireCode]] = {
    "a byte short": ({}, lambda b: b[:-1], WireCode.BAD_BITS),
    "a byte long": ({}, lambda b: b + b"\0", WireCode.BAD_BITS),
    "a round short": ({}, lambda b: b[: len(b) // 2], WireCode.BAD_BITS),
    "nothing": ({}, lambda _: b"", WireCode.BAD_BITS),
    "no rounds": ({"count": 0}, lambda _: b"", WireCode.BAD_BITS),
    "rounds announced that are not there": ({"count": 2**61}, lambda b: b, WireCode.BAD_BITS),
    "a lost plane announced that is not there": ({"flags": 2}, lambda b: b, WireCode.BAD_BITS),
    "a lost plane not announced": ({}, lambda b: b + b, WireCode.BAD_BITS),
    "half a lost plane": ({"flags": 2}, lambda b: b + b[: len(b) // 2], WireCode.BAD_BITS),
    "unknown flag": ({"flags": 4}, lambda b: b, WireCode.BAD_FRAME),
    "all flags": ({"flags": 2**61}, lambda b: b, WireCode.BAD_FRAME),
    "padding set in a first round": ({}, lambda _: b"\x10\x00", WireCode.BAD_BITS),
    "last, in the middle of nowhere": ({"flags": 1}, lambda _: b"\0\0", WireCode.BAD_LENGTH),
}


@pytest.mark.parametrize("name", BODIES)
def test_bad_rounds(name: str) -> None:
    """At the very start of a stream, where a round has half as many bits."""
    fields, change, code = BODIES[name]
    lane = Lane()
    with bystander(lane):
        stream = REC.open(lane)
        header, body = stream.rounds(0, REC.records[:2], **fields)
        refused(stream, (header, change(body)), code)
        for a, b, last in REC.frames(0, []):
            assert stream.send(a, REC.records[a:b], last=last) is None
        same(stream.collect(), answers(NAME))


def test_rounds_say_what_is_expected_next(victim: Stream) -> None:
    wrong = victim.rounds(SENT, REC.records[SENT : SENT + 1], count=2)
    refused(victim, wrong, WireCode.BAD_BITS, SENT)


@pytest.mark.parametrize("first", [0, SENT - 1])
def test_duplicate(victim: Stream, first: int) -> None:
    """Also where the frame goes beyond what is known: it would have to be cut."""
    frame = victim.rounds(first, REC.records[first : SENT + 1])
    refused(victim, frame, WireCode.DUPLICATE, SENT)
    assert victim.lane.stats["duplicates"] == 1


@pytest.mark.parametrize("first", [SENT, SENT + 1, 10**6, 2**61])
def test_beyond_credit(victim: Stream, first: int) -> None:
    count = victim.credit_until - SENT + 1
    frame = victim.rounds(first, np.zeros((count, 1), dtype=np.uint8))
    refused(victim, frame, WireCode.NO_CREDIT, SENT)
    assert victim.lane.stats["gaps"] == 0


def test_the_last_credit_may_be_used() -> None:
    stream = REC.open(Lane())
    quiet = np.zeros((stream.credit_until, 1), dtype=np.uint8)
    assert stream.send(0, quiet) is None
    code_of(WireCode.NO_CREDIT, stream.send(len(quiet), quiet[:1]))
    stream.collect()
    assert stream.send(len(quiet), quiet[:1]) is None


@pytest.mark.parametrize("off", [-1, 1])
def test_stale_epoch(victim: Stream, off: int) -> None:
    epoch = victim.epoch + off
    frame = victim.rounds(SENT, REC.records[SENT : SENT + 1], epoch=epoch)
    refused(victim, frame, WireCode.STALE_EPOCH)
    refused(victim, (encode(Ping(victim.handle, epoch)),), WireCode.STALE_EPOCH)
    refused(victim, (encode(Close(victim.handle, epoch)),), WireCode.STALE_EPOCH)


@pytest.mark.parametrize("handle", [0, 99, 2**61])
def test_unknown_handle(victim: Stream, handle: int) -> None:
    frame = victim.rounds(SENT, REC.records[SENT : SENT + 1], handle=handle)
    refused(victim, frame, WireCode.NOT_OPEN)
    refused(victim, (encode(Ping(handle, victim.epoch)),), WireCode.NOT_OPEN)
    refused(victim, (encode(Close(handle, victim.epoch)),), WireCode.NOT_OPEN)


def test_somebody_elses_handle(victim: Stream) -> None:
    """Knowing a handle and an epoch gives no access: the connection decides."""
    thief = Stream(victim.lane, b"thief", handle=victim.handle, epoch=victim.epoch)
    frame = thief.rounds(SENT, REC.records[SENT : SENT + 1])
    refused(thief, frame, WireCode.NOT_OPEN)
    refused(thief, (encode(Close(victim.handle, victim.epoch)),), WireCode.NOT_OPEN)
    refused(thief, (encode(Ping(victim.handle, victim.epoch)),), WireCode.NOT_OPEN)
