"""The policy of keys, stepped without a socket: who may do what, and how much of it."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zmq.utils import z85

from helpers.lanes import Lane, code_of, config
from helpers.recordings import recording
from qdec.bus.wire import (
    Close,
    Closed,
    Error,
    FromLane,
    Open,
    OpenBody,
    Opened,
    Status,
    StatusReply,
    encode,
)
from qdec.config import StreamConfig
from qdec.errors import WireCode
from qdec.security.access import LOCAL, Access, Administer, Bucket, OpenStream, Watch
from qdec.security.grants import Grant
from qdec.security.keys import fingerprint, new_pair
from qdec.security.rarely import Rarely
from qdec.security.zap import IPC, TCP, judge

SECOND = 1_000_000_000
REC = recording("endless")
KEYS = [new_pair(name).public for name in ("a", "b", "c")]
A, B, C = KEYS


def grant(public: str = A, name: str = "a", **rights: object) -> Grant:
    return Grant.model_validate({"name": name, "public": public, **rights})


def test_what_is_not_given_is_not_allowed() -> None:
    access = Access([grant()])
    for request in (OpenStream("s"), OpenStream("s", guest=True), Watch("status"), Administer()):
        assert "key 'a' may not" in access.authorise(A, request)
        assert "is not authorised" in access.authorise(B, request)
        assert "is not authorised" in access.authorise("", request)
        assert access.authorise(LOCAL, request) == ""
    assert [access.knows(user) for user in (A, B, "", LOCAL)] == [True, False, False, True]


@pytest.mark.parametrize(
    ("rights", "request_", "allowed"),
    [
        ({"streams": ["patch*"]}, OpenStream("patch0"), True),
        ({"streams": ["patch*"]}, OpenStream("Patch0"), False),
        ({"streams": ["patch*"]}, OpenStream("xpatch0"), False),
        ({"streams": ["a", "b?"]}, OpenStream("b1"), True),
        ({"streams": ["[ab]*"]}, OpenStream("c"), False),
        ({"streams": ["*"]}, OpenStream("s", guest=True), False),
        ({"streams": ["*"], "guests": True}, OpenStream("s", guest=True), True),
        ({"streams": ["x"], "guests": True}, OpenStream("s", guest=True), False),
        ({"streams": ["*"], "max_streams": 2}, OpenStream("s", others=1), True),
        ({"streams": ["*"], "max_streams": 2}, OpenStream("s", others=2), False),
        ({"admin": True, "max_streams": 2}, OpenStream("s", others=2), False),
        ({"topics": ["answers.*"]}, Watch("answers.patch0"), True),
        ({"topics": ["answers.*"]}, Watch("status"), False),
        ({"streams": ["*"], "topics": ["*"]}, Administer(), False),
        ({"admin": True}, Administer(), True),
        ({"admin": True}, Watch("status"), True),
        ({"admin": True}, OpenStream("s", guest=True), True),
    ],
)
def test_rights(rights: dict[str, object], request_: OpenStream, allowed: bool) -> None:
    assert (Access([grant(**rights)]).authorise(A, request_) == "") is allowed


def test_what_peers_are_called() -> None:
    access = Access([grant()])
    assert access.name(A) == "key 'a'"
    assert access.name(B) == f"an unknown key ({fingerprint(B)})"
    assert access.name("") == "a peer without a key"
    assert B not in access.name(B)


@given(
    st.integers(1, 10_000),
    st.lists(st.tuples(st.integers(0, 2 * SECOND), st.integers(1, 20_000)), max_size=60),
)
def test_no_bucket_gives_more_than_its_rate(rate: int, asked: list[tuple[int, int]]) -> None:
    """Over any time, a second's worth, what the time brings, and one message that is too large."""
    bucket, now, given_, largest = Bucket(rate), 0, 0, 0
    for wait, amount in asked:
        now += wait
        if bucket.take(amount, now):
            given_ += amount
            largest = max(largest, amount)
        assert given_ <= rate + rate * now / SECOND + largest + 1e-6


def test_a_bucket_fills_up_again() -> None:
    bucket = Bucket(10)
    assert [bucket.take(1, 0) for _ in range(11)] == [True] * 10 + [False]
    assert not bucket.take(1, SECOND // 20)
    assert bucket.take(1, SECOND // 9)
    assert not bucket.take(1, 0), "time that runs backwards brings nothing"
    assert bucket.take(10, 10 * SECOND)


def test_limits_of_messages_and_bytes() -> None:
    access = Access(
        [
            grant(messages_per_second=2, message_bytes=100, bytes_per_second=150),
            grant(B, "b", bytes_per_second=1000),
        ]
    )
    assert "message_bytes = 100" in access.throttle(A, 101, 0)
    assert access.throttle(A, 100, 0) == ""
    assert "bytes_per_second = 150" in access.throttle(A, 100, 0)
    assert "messages_per_second = 2" in access.throttle(A, 1, 0)
    assert access.throttle(B, 1000, 0) == ""
    assert access.throttle(LOCAL, 1 << 30, 0) == ""
    access.adopt([grant(messages_per_second=2, name="renamed"), grant(B, "b")])
    assert "messages_per_second" in access.throttle(A, 1, 0), "a reload is no new second"
    assert access.throttle(B, 1 << 30, 0) == ""
    assert not access.knows(C)


CURVE = [TCP, b"10.0.0.7", b"", b"CURVE"]


def raw(public: str) -> bytes:
    return z85.decode(public)


def test_the_handshakes_judge() -> None:
    access = Access([grant()])
    answer, refused = judge([b"1.0", b"7", *CURVE, raw(A)], access)
    assert (answer, refused) == ([b"1.0", b"7", b"200", b"OK", A.encode(), b""], "")
    answer, refused = judge([b"1.0", b"7", *CURVE, raw(B)], access)
    assert answer[:3] == [b"1.0", b"7", b"400"]
    assert fingerprint(B) in refused
    assert "10.0.0.7" in refused
    assert B not in refused
    answer, _ = judge([b"1.0", b"7", IPC, b"", b"", b"NULL"], access)
    assert answer[2:5:2] == [b"200", LOCAL.encode()]


@pytest.mark.parametrize(
    "request_",
    [
        [],
        [b"1.0"],
        [b"2.0", b"7", *CURVE, b"x" * 32],
        [b"1.0", b"7", TCP, b"", b"", b"NULL"],
        [b"1.0", b"7", IPC, b"", b"", b"PLAIN", b"local", b"local"],
        [b"1.0", b"7", b"", b"", b"", b"NULL"],
        [b"1.0", b"7", *CURVE],
        [b"1.0", b"7", *CURVE, b""],
        [b"1.0", b"7", *CURVE, b"x" * 31],
        [b"1.0", b"7", *CURVE, b"x" * 32, b"x" * 32],
        [b"1.0", b"7", IPC, b"", b"", b"CURVE", b"x" * 32],
    ],
)
def test_whatever_else_is_asked_is_refused(request_: list[bytes]) -> None:
    answer, refused = judge(request_, Access([grant()]))
    assert len(answer) == 6
    assert answer[2] in (b"400", b"500")
    assert answer[4] == b""
    assert refused


@given(st.lists(st.binary(max_size=40), max_size=9))
def test_no_request_breaks_the_judge(request_: list[bytes]) -> None:
    answer, refused = judge(request_, Access([grant()]))
    assert len(answer) == 6
    assert (answer[2] == b"200") is (refused == "")


def test_a_flood_of_warnings_is_a_few_lines(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    rarely = Rarely(logging.getLogger("test"), lambda: now)
    for _ in range(100):
        rarely.warning("kind", "refused")
    rarely.warning("other", "something else")
    now = 60.0
    rarely.warning("kind", "refused")
    assert [r.getMessage() for r in caplog.records] == [
        "refused",
        "something else",
        "refused (and 99 more such since the last line)",
    ]


# -- in a lane, without sockets --------------------------------------------------------------------


def locked(*grants: Grant) -> Lane:
    return Lane(config().model_copy(update={"keys": grants}))


def opening(stream: str = "s") -> list[bytes]:
    body = OpenBody(stream=stream, code="circuit", **REC.options)
    return [encode(Open(7, body, False)), *REC.code]


def tell(lane: Lane, user: str, *parts: bytes, peer: bytes = b"p") -> list[FromLane]:
    lane.core.receive(peer, list(parts), user)
    return [message for message, _ in lane.hear(peer)]


def test_a_lane_asks_the_policy() -> None:
    lane = locked(grant(streams=["s"], guests=True), grant(B, "b", topics=["status"]))
    (reply,) = tell(lane, B, *opening())
    code_of(WireCode.NOT_ALLOWED, reply)
    (reply,) = tell(lane, A, encode(Status(1)))
    code_of(WireCode.NOT_ALLOWED, reply)
    (reply,) = tell(lane, B, encode(Status(1)))
    assert isinstance(reply, StatusReply)
    (reply,) = tell(lane, A, *opening())
    assert isinstance(reply, Opened)
    assert lane.stats["denied"] == 2


def test_streams_of_others_are_not_named(tmp_path: Path) -> None:
    streams = [StreamConfig(name=name, code=tmp_path / "x") for name in ("lab.a", "hidden")]
    settings = config(*streams).model_copy(update={"keys": (grant(streams=["lab.*"]),)})
    lane = Lane(settings)
    open_ = encode(Open(7, OpenBody(stream="lab.b"), False))
    (reply,) = tell(lane, A, open_)
    code_of(WireCode.UNKNOWN_STREAM, reply)
    assert isinstance(reply, Error)
    assert "lab.a" in reply.message
    assert "hidden" not in reply.message
    (reply,) = tell(lane, LOCAL, open_)
    assert isinstance(reply, Error)
    assert "hidden" in reply.message


def test_a_stream_is_its_keys_even_on_the_same_connection() -> None:
    """A routing id may be another client's by now."""
    rights = {"streams": ["*"], "guests": True}
    lane = locked(grant(**rights), grant(B, "b", **rights))
    (reply,) = tell(lane, A, *opening())
    assert isinstance(reply, Opened)
    close = encode(Close(reply.handle, reply.epoch))
    (refused,) = tell(lane, B, close)
    assert isinstance(refused, Error)
    assert refused.code == WireCode.NOT_OPEN
    (closed,) = tell(lane, A, close)
    assert isinstance(closed, Closed)


def test_who_asks_for_a_stream_that_is_taken_is_asked_for_its_right_again() -> None:
    """Its turn comes when the holder is found gone; its key counts then as before."""
    rights = {"streams": ["*"], "guests": True}
    lane = locked(grant(**rights), grant(B, "b", **rights))
    tell(lane, A, *opening())
    lane.gone.add(b"p")
    (reply,) = tell(lane, B, *opening(), peer=b"q")
    assert isinstance(reply, Opened)
    (session,) = lane.core._sessions.values()
    assert session.user == B


def test_who_sends_too_much_is_told_now_and_then() -> None:
    lane = locked(grant(streams=["*"], guests=True, messages_per_second=1))
    (opened,) = tell(lane, A, *opening())
    assert isinstance(opened, Opened)
    replies = [reply for _ in range(50) for reply in tell(lane, A, encode(Status(1)))]
    (told,) = replies
    assert isinstance(told, Error)
    assert (told.code, told.handle, told.epoch) == (
        WireCode.LIMIT,
        opened.handle,
        opened.epoch,
    )
    assert lane.stats["throttled"] == 50
    lane.now += SECOND // 5
    assert len(tell(lane, A, encode(Status(1)))) == 1


def test_a_key_that_was_taken_out_cannot_flood_the_lane_with_what_it_has_open() -> None:
    lane = locked(grant())
    lane.core.configure(config())
    replies = [reply for _ in range(5000) for reply in tell(lane, A, encode(Status(1)))]
    assert 100 <= len(replies) <= 102
    assert lane.stats["throttled"] >= 4899


def test_a_reload_takes_rights_away_at_once() -> None:
    lane = locked(grant(streams=["*"], guests=True))
    tell(lane, A, *opening())
    lane.core.configure(config().model_copy(update={"keys": (grant(streams=["s"]),)}))
    assert lane.hear(b"p") == []
    lane.core.configure(config().model_copy(update={"keys": (grant(streams=["t"]),)}))
    ((closed, _),) = lane.hear(b"p")
    assert isinstance(closed, Closed)
    lane.core.configure(config())
    (reply,) = tell(lane, A, *opening())
    code_of(WireCode.NOT_ALLOWED, reply)
