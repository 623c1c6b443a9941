"""Anything at all may arrive: it is answered by the book or ignored for a reason, never fatal.

Interesting finds of longer runs (HYPOTHESIS_PROFILE=explore) stand as tests of their own here and
in test_bad_frames.py, test_bad_opens.py and test_losses.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from helpers.lanes import Lane, Stream, config
from helpers.recordings import bystander, recording
from qdec.bus.wire import (
    Close,
    Closed,
    Commit,
    Credit,
    Error,
    Open,
    OpenBody,
    Opened,
    OpenedBody,
    Pause,
    Ping,
    Proceed,
    Redirect,
    Rounds,
    Status,
    StatusReply,
    Type,
    decode_from_client,
    decode_from_lane,
    encode,
)
from qdec.errors import WireCode, WireError

MODEL = "".join(
    f"detector(0, 0, {r}) D{r}\nerror(0.1) D{r} L0\n" + (f"error(0.1) D{r - 1} D{r}\n" if r else "")
    for r in range(6)
).encode()
REC = recording("endless")

# -- what may arrive ---------------------------------------------------------------------------

numbers = st.one_of(
    st.integers(-3, 300),
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([2**31, 2**32 - 1, 2**32, 2**53, 2**62 - 1, 2**62, 2**63, 2**64 - 1]),
)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    numbers,
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4)),
    st.builds(msgpack.Timestamp, st.integers(0, 2**34 - 1), st.just(0)),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=8), numbers), inner, max_size=3),
    ),
    max_leaves=5,
)
headers = st.one_of(
    values,
    st.builds(
        lambda kind, rest: [1, kind, *rest],
        st.one_of(st.sampled_from([1, 2, 3, 4, 5, 6, 64, 66]), numbers),
        st.lists(values, max_size=9),
    ),
).map(msgpack.packb)


@st.composite
def mutations(draw: st.DrawFn, valid: list[list[bytes]]) -> list[bytes]:
    """A message that was right before something happened to it."""
    parts = list(draw(st.sampled_from(valid)))
    for _ in range(draw(st.integers(0, 3))):
        which = draw(st.integers(0, len(parts) - 1))
        part = parts[which]
        match draw(st.sampled_from(["flip", "cut", "field", "grow", "part", "drop", "swap"])):
            case "flip" if part:
                at = draw(st.integers(0, 8 * len(part) - 1))
                damaged = bytearray(part)
                damaged[at // 8] ^= 1 << at % 8
                parts[which] = bytes(damaged)
            case "cut":
                parts[which] = part[: draw(st.integers(0, len(part)))]
            case "field":
                parts[0] = _with_another_field(draw, parts[0])
            case "grow":
                parts[which] = part + draw(st.binary(max_size=9))
            case "part":
                parts.insert(which + 1, draw(st.binary(max_size=9)))
            case "drop" if len(parts) > 1:
                del parts[which]
            case "swap":
                parts = parts[::-1]
    return parts


def _with_another_field(draw: st.DrawFn, header: bytes) -> bytes:
    try:
        items = msgpack.unpackb(header, strict_map_key=False)
    except Exception:
        return header
    if not isinstance(items, list) or not items:
        return header
    at = draw(st.integers(0, len(items) - 1))
    if isinstance(items[at], dict) and items[at]:
        key = draw(st.sampled_from(sorted(items[at], key=repr)))
        items[at][key] = draw(values)
    else:
        items[at] = draw(values)
    packed: bytes = msgpack.packb(items)
    return packed


def understood(decode: Callable[[bytes], Any], header: bytes) -> Any:
    """The message, or the WireError that refuses it; any other exception is a failure."""
    try:
        return decode(header)
    except WireError as error:
        return error


@pytest.fixture(autouse=True)
def nothing_breaks_unseen() -> Iterator[None]:
    """A lane outlives its own bugs and logs them; here they count as failures."""

    class Fatal(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise AssertionError(record.getMessage()) from (record.exc_info or (None, None))[1]

    handler = Fatal(logging.ERROR)
    logger = logging.getLogger("qdec")
    logger.addHandler(handler)
    yield
    logger.removeHandler(handler)


class Scene:
    """A lane with a stream in progress, and messages that would be right just now."""

    def __init__(self) -> None:
        self.lane = Lane(config(max_streams=4, pause_ms=60_000))
        self.stream = Stream(self.lane, b"peer", (MODEL,)).open(
            code="dem", windows="3,2", endless=True
        )
        self.stream.send(0, np.zeros((4, 1), dtype=np.uint8))
        self.stream.collect()
        # Handle and epoch are known only now; a fuzzer without them would not reach far.
        s = self.stream
        self.valid: list[list[bytes]] = [
            list(s.rounds(4, np.zeros((2, 1), dtype=np.uint8))),
            list(s.rounds(4, np.ones((3, 1), dtype=np.uint8), last=True)),
            list(s.rounds(5, np.ones((1, 1), dtype=np.uint8))),
            list(s.rounds(4, np.ones((1, 1), np.uint8), lost=np.ones((1, 1), np.uint8))),
            [encode(Ping(s.handle, s.epoch))],
            [encode(Close(s.handle, s.epoch))],
            [encode(Status(3))],
            [encode(Open(1, OpenBody(stream="t", code="dem", windows="3,2"), False)), MODEL],
            [encode(Open(2, OpenBody(stream="s", code="dem"), False)), MODEL],
            [
                encode(Open(3, OpenBody(stream="u", code="dem"), False)),
                MODEL,
                np.arange(6, dtype="<u4").tobytes(),
            ],
            [
                encode(
                    Open(4, OpenBody(stream="s", code="dem", endless=True, cursor=s.cursor), True)
                ),
                MODEL,
            ],
        ]

    def take(self, parts: list[bytes], peer: bytes) -> None:
        lane = self.lane
        lane.hear(peer)
        errors = lane.stats["errors"]
        replies = [m for m, _ in lane.tell(peer, *parts)]
        for reply in replies:
            if isinstance(reply, Error):
                assert WireCode(reply.code) is not WireCode.INTERNAL
                assert reply.message
        assert lane.stats["errors"] == errors + sum(isinstance(m, Error) for m in replies)
        assert lane.core.sessions <= 4
        message = understood(decode_from_client, parts[0])
        if isinstance(message, WireError):
            (reply,) = replies
            assert isinstance(reply, Error)
            assert reply.code == message.wire
            return
        # Whatever is understood is answered; only rounds that are accepted are answered later.
        said = [m for m in replies if not (isinstance(m, Credit) and isinstance(message, Open))]
        if isinstance(message, Rounds):
            assert len(said) <= 1
        else:
            assert len(said) == 1


@given(data=st.data())
@settings(max_examples=60)
def test_a_lane_survives_anything(data: st.DataObject) -> None:
    scene = Scene()
    with bystander(scene.lane, "shots, windows"):
        hostile = st.one_of(
            st.lists(st.binary(max_size=40), min_size=1, max_size=4),
            st.builds(lambda h, b: [h, *b], headers, st.lists(st.binary(max_size=9), max_size=3)),
            mutations(scene.valid),
            mutations(scene.valid),
        )
        for _ in range(data.draw(st.integers(1, 12))):
            peer = data.draw(st.sampled_from([b"peer", b"peer", b"stranger"]))
            scene.take(data.draw(hostile), peer)
            scene.lane.now += data.draw(st.sampled_from([0, 10**6, 10**8]))
            if data.draw(st.booleans()):
                scene.lane.work()
        scene.lane.work()


@given(data=st.data())
@settings(max_examples=100)
def test_wild_rounds_leave_a_decodable_stream(data: st.DataObject) -> None:
    """Any rounds whatever, in any order: windows come in order, and all of what was accepted."""
    raw = data.draw(st.booleans())
    name = "endless, raw, no reset" if raw else "endless"
    lane = Lane()
    stream = recording(name).open(lane)
    assert stream.info is not None
    width = stream.info.record_bytes
    at = window = 0
    ended = False
    for _ in range(data.draw(st.integers(1, 10))):
        n = data.draw(st.integers(1, 9))
        rng = np.random.default_rng(data.draw(st.integers(0, 99)))
        bits = rng.integers(0, 256, (n, width)).astype(np.uint8)
        lost = rng.integers(0, 256, (n, width)).astype(np.uint8)
        first = max(0, at + data.draw(st.sampled_from([0, 0, 0, 0, -1, 1, 5])))
        error = stream.send(
            first,
            bits & data.draw(st.sampled_from([0, 1, 15, 255])),
            last=data.draw(st.booleans()),
            lost=lost if data.draw(st.booleans()) else None,
        )
        lane.now += data.draw(st.sampled_from([0, 10**8]))
        if error is None:
            assert first >= at
            at = first + n
        for row in stream.collect():
            assert row["window"] == window
            window += 1
            ended = bool(row["flags"] & 1)
    assert at == lane.stats["rounds"] + lane.stats["rounds_erased"]
    assert stream.retain_from <= at
    if ended:
        assert stream.retain_from > 0


# -- the client's side -------------------------------------------------------------------------

OPENED = Opened(
    1,
    2,
    3,
    OpenedBody(
        stream="s",
        next_round=0,
        next_window=0,
        credit_until=256,
        record_bytes=1,
        shot_rounds=0,
        frame_bytes=1,
        seam_bytes=1,
        observables=1,
        window=6,
        commit=3,
        tier="matching",
        deadline_us=2000,
        ring_rounds=256,
        tail_in_one_frame=2,
        code_sha256="00" * 32,
        cursor=b"c" * 100,
        notes=["a note"],
    ),
)
FROM_LANE = [
    [encode(message)]
    for message in (
        OPENED,
        Redirect(1, "tcp://127.0.0.1:7601"),
        Commit(1, 2, 3, 4, 5, b"cursor"),
        Credit(1, 2, 3, 4, 5),
        Pause(1, 2, 1),
        Proceed(1, 2),
        Closed(1, 2),
        StatusReply(1, {"windows": 3}),
        Error(1, 2, 3, 9, "round 4 is missing", 4),
    )
]


@given(
    parts=st.one_of(
        mutations(FROM_LANE), headers.map(lambda h: [h]), st.binary(max_size=40).map(lambda b: [b])
    )
)
@example([msgpack.packb([1, Type.REDIRECT, "1", "tcp://127.0.0.1:1"])])
@example([msgpack.packb([1, Type.STATUS_REPLY, -1, {}])])
@settings(max_examples=150)
def test_a_client_survives_anything(parts: list[bytes]) -> None:
    message = understood(decode_from_lane, parts[0])
    if isinstance(message, WireError):
        assert message.wire in {
            WireCode.BAD_FRAME,
            WireCode.BAD_TYPE,
            WireCode.BAD_VERSION,
            WireCode.TOO_LARGE,
        }
        return
    # What was understood has fields of the right types, so that nothing fails later on.
    for name in type(message).__slots__:
        value: Any = getattr(message, name)
        wanted = type(message).__annotations__[name]
        if wanted == "int":
            assert type(value) is int, (message, name)
            assert value >= 0
        elif wanted in ("str", "bytes"):
            assert type(value).__name__ == wanted


@given(header=headers)
@example(msgpack.packb([1, Type.OPEN, 1, {b"\xff": 1}]))
@settings(max_examples=100)
def test_decoding_is_total(header: bytes) -> None:
    for decode in (decode_from_client, decode_from_lane):
        message = understood(decode, header)
        if isinstance(message, WireError):
            assert str(message)
        else:
            assert decode(encode(message)) == message
