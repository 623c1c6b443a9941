"""Messages survive the wire, and headers are what docs/protocol.md says they are."""

from __future__ import annotations

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdec.bus import wire
from qdec.bus.wire import (
    MAX_CURSOR_BYTES,
    MAX_HEADER_BYTES,
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

ints = st.integers(0, 2**62 - 1)
names = st.from_regex(r"[A-Za-z0-9_.\-]{1,64}", fullmatch=True)
words = st.text("abcdefghijklmnopqrstuvwxyz,0123456789", min_size=1, max_size=32)


def optional(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.one_of(st.none(), strategy)


@st.composite
def opens(draw: st.DrawFn) -> Open:
    cursor = draw(st.binary(max_size=300))
    body = OpenBody(
        stream=draw(names),
        code=draw(st.sampled_from(["", "dem", "circuit"])),
        raw=draw(st.booleans()),
        endless=draw(optional(st.booleans())),
        windows=draw(optional(words)),
        tier=draw(optional(words)),
        deadline_us=draw(optional(st.integers(1, 10**9))),
        cursor=cursor,
    )
    return Open(draw(ints), body, bool(cursor))


bodies = st.builds(
    OpenedBody,
    stream=names,
    tier=words,
    cursor=st.binary(max_size=300),
    notes=st.lists(words, max_size=3),
    code_sha256=words,
    **{name: ints for name, field in OpenedBody.model_fields.items() if field.annotation is int},
)
FROM_CLIENT = st.one_of(
    opens(),
    st.builds(Rounds, *[ints] * 7),
    st.builds(Close, ints, ints),
    st.builds(Ping, ints, ints),
    st.builds(Status, ints),
)
FROM_LANE = st.one_of(
    st.builds(Opened, ints, ints, ints, bodies),
    st.builds(Redirect, ints, st.text(max_size=60)),
    st.builds(Commit, *[ints] * 5, st.binary(max_size=MAX_CURSOR_BYTES)),
    st.builds(Credit, *[ints] * 5),
    st.builds(Pause, *[ints] * 3),
    st.builds(Proceed, ints, ints),
    st.builds(Closed, ints, ints),
    st.builds(StatusReply, ints, st.dictionaries(words, st.one_of(ints, words))),
    st.builds(Error, ints, ints, ints, st.sampled_from(list(WireCode)), st.text(max_size=9), ints),
)


@given(FROM_CLIENT)
def test_what_a_client_says_arrives(message: wire.FromClient) -> None:
    assert decode_from_client(encode(message)) == message


@given(FROM_LANE)
def test_what_a_lane_says_arrives(message: wire.FromLane) -> None:
    assert decode_from_lane(encode(message)) == message


@pytest.mark.parametrize("number", list(Type))
def test_each_side_says_only_what_is_its_own(number: Type) -> None:
    """A message sent the wrong way round is refused as an unknown type, whatever is in it."""
    header = msgpack.packb([1, number, 1, 1, 1, 1, 1])
    other = decode_from_lane if number < 64 else decode_from_client
    with pytest.raises(WireError) as caught:
        other(header)
    assert caught.value.wire is WireCode.BAD_TYPE


def test_every_type_has_a_message() -> None:
    kinds = {type(m) for m in EXAMPLES}
    assert {msgpack.unpackb(encode(m))[1] for m in EXAMPLES} == set(Type)
    assert len(kinds) == len(Type) - 1  # OPEN and RESUME are one class


EXAMPLES: list[wire.FromClient | wire.FromLane] = [
    Open(1, OpenBody(stream="s"), False),
    Open(1, OpenBody(stream="s", cursor=b"c"), True),
    Rounds(1, 2, 3, 4, 5, 6, 7),
    Close(1, 2),
    Ping(1, 2),
    Status(1),
    Opened(1, 2, 3, OpenedBody.model_construct()),
    Redirect(1, "tcp://127.0.0.1:1"),
    Commit(1, 2, 3, 4, 5, b"c"),
    Credit(1, 2, 3, 4, 5),
    Pause(1, 2, 3),
    Proceed(1, 2),
    Closed(1, 2),
    StatusReply(1, {}),
    Error(1, 2, 3, 4, "m", 5),
]


def test_numbers_never_change() -> None:
    """They are on the wire: old clients and recordings know them."""
    assert {t.name: int(t) for t in Type} == {
        "OPEN": 1,
        "RESUME": 2,
        "ROUNDS": 3,
        "CLOSE": 4,
        "PING": 5,
        "STATUS": 6,
        "OPENED": 64,
        "REDIRECT": 65,
        "COMMIT": 66,
        "CREDIT": 67,
        "PAUSE": 68,
        "PROCEED": 69,
        "CLOSED": 70,
        "STATUS_REPLY": 71,
        "ERROR": 72,
    }
    assert [(c.name, int(c)) for c in WireCode] == [
        ("BAD_FRAME", 1),
        ("BAD_VERSION", 2),
        ("BAD_TYPE", 3),
        ("TOO_LARGE", 4),
        ("UNKNOWN_STREAM", 5),
        ("STREAM_BUSY", 6),
        ("NOT_OPEN", 7),
        ("STALE_EPOCH", 8),
        ("GAP", 9),
        ("DUPLICATE", 10),
        ("NO_CREDIT", 11),
        ("BAD_BITS", 12),
        ("BAD_CODE", 13),
        ("CODE_TOO_LARGE", 14),
        ("BAD_CURSOR", 15),
        ("BAD_OPTION", 16),
        ("DRAINING", 17),
        ("LIMIT", 18),
        ("BAD_LENGTH", 19),
        ("INTERNAL", 20),
        ("NOT_ALLOWED", 21),
    ]
    assert [(int(f), f.name) for f in wire.RoundsFlag] == [(1, "LAST"), (2, "LOST")]
    assert [(int(r), r.name) for r in wire.PauseReason] == [
        (1, "DRAINING"),
        (2, "OVERLOAD"),
        (3, "DEGRADED"),
    ]


def test_only_what_differs_from_the_defaults_is_sent() -> None:
    header = encode(Open(5, OpenBody(stream="s", code="dem"), False))
    assert msgpack.unpackb(header) == [1, 1, 5, {"stream": "s", "code": "dem"}]


def test_a_header_may_be_as_long_as_the_limit() -> None:
    room = MAX_HEADER_BYTES - len(msgpack.packb([1, Type.OPEN, 1, {"stream": "s", "x": ""}])) - 2
    for more, code in ((0, WireCode.BAD_OPTION), (1, WireCode.TOO_LARGE)):
        header = msgpack.packb([1, Type.OPEN, 1, {"stream": "s", "x": "y" * (room + more)}])
        assert len(header) == MAX_HEADER_BYTES + more
        with pytest.raises(WireError) as caught:
            decode_from_client(header)
        assert caught.value.wire is code


def test_the_longest_cursor_fits_in_a_resume() -> None:
    body = OpenBody(
        stream="s" * 64,
        code="circuit",
        raw=True,
        endless=True,
        windows="w" * 32,
        tier="t" * 32,
        deadline_us=10**9,
        cursor=b"c" * MAX_CURSOR_BYTES,
    )
    message = Open(2**62 - 1, body, True)
    assert decode_from_client(encode(message)) == message


def test_a_client_passes_over_fields_it_does_not_know() -> None:
    """What a later lane adds to OPENED; what the client needs must still be there."""
    known = {
        name: 1 if field.annotation is int else "s"
        for name, field in OpenedBody.model_fields.items()
    }
    known |= {
        "identity": "0123456789abcdef",
        "cursor": b"",
        "notes": [],
        "parts": ["tcp://127.0.0.1:7600"],
    }
    header = msgpack.packb([1, Type.OPENED, 1, 2, 3, {**known, "colour": "blue"}])
    message = decode_from_lane(header)
    assert isinstance(message, Opened)
    assert message.body == OpenedBody(**known)
    del known["part"], known["parts"]  # an older lane has no streams in parts
    alone = decode_from_lane(msgpack.packb([1, Type.OPENED, 1, 2, 3, known]))
    assert isinstance(alone, Opened)
    assert (alone.body.part, alone.body.parts) == (0, [])
    del known["credit_until"]
    with pytest.raises(WireError, match="credit_until"):
        decode_from_lane(msgpack.packb([1, Type.OPENED, 1, 2, 3, known]))


def test_long_error_texts_are_cut() -> None:
    header = encode(Error(0, 0, 0, 13, "x" * 10_000, 0))
    message = decode_from_lane(header)
    assert isinstance(message, Error)
    assert len(message.message) == 1024
