"""A lane's life: who holds a stream, who takes it over, who waits, and how it ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest

from helpers.circuits import memory, one_after_the_other
from helpers.lanes import KEY, LIBRARY, Lane, Stream, code_of, config, same
from helpers.recordings import answers, bystander, recording
from qdec.bus.wire import (
    Close,
    Closed,
    Commit,
    Credit,
    Error,
    Open,
    OpenBody,
    Opened,
    Pause,
    PauseReason,
    Ping,
    Redirect,
    Status,
    StatusReply,
    encode,
)
from qdec.codes import Code, Limits
from qdec.commit import Job, run_jobs
from qdec.config import StreamConfig
from qdec.errors import WireCode
from qdec.lane import opening
from qdec.lane.core import LaneCore
from qdec.lane.library import Library
from qdec.lane.stats import Histogram, dense
from qdec.match import Tier
from qdec_tools.sampler import EndlessSampler

REC = recording("endless")


def on(lane: Lane, peer: bytes, stream: str = "s") -> Stream:
    return REC.open(lane, peer, stream=stream)


def ask(lane: Lane, peer: bytes, cursor: bytes = b"", stream: str = "s") -> Any:
    """The reply to OPEN or RESUME."""
    lane.core.receive(peer, [request(stream, cursor), *REC.code])
    (reply,) = [m for m, _ in lane.hear(peer) if isinstance(m, Opened | Redirect | Error)]
    return reply


def request(stream: str, cursor: bytes = b"") -> bytes:
    body = OpenBody(stream=stream, cursor=cursor, code="circuit", **REC.options)
    return encode(Open(7, body, bool(cursor)))


# -- what is agreed ----------------------------------------------------------------------------


def test_patches_run_one_after_the_other_are_streamed_endlessly_as_their_model_is() -> None:
    circuit = one_after_the_other(memory(d=3, rounds=8, p=0.008))
    code = Code.from_circuit(circuit)
    records = EndlessSampler(code.streamed(raw=False), seed=3).next(60)
    taken = []
    for kind, text in (("circuit", str(circuit)), ("dem", str(code.dem))):
        stream = Stream(Lane(), code=(text.encode(),)).open(code=kind, endless=True, windows="6,3")
        assert stream.send(0, records) is None
        taken.append(stream.collect())
    same(*taken)
    assert len(taken[0]) == 19
    assert taken[0]["frame"].any()
    raw = Stream(Lane(), code=(str(circuit).encode(),))
    reply = raw.ask(code="circuit", endless=True, windows="6,3", raw=True)
    code_of(WireCode.BAD_OPTION, reply)
    assert "stream detectors" in reply.message


def test_opened_says_what_a_client_needs() -> None:
    stream = on(Lane(), b"a")
    info = stream.info
    assert info is not None
    assert (info.stream, info.next_round, info.next_window) == ("s", 0, 0)
    assert (info.window, info.commit, info.shot_rounds) == (6, 3, 0)
    assert (info.record_bytes, info.frame_bytes, info.seam_bytes) == (1, 1, 1)
    assert (info.observables, info.tier, info.ring_rounds) == (1, "matching", 256)
    assert info.credit_until == 256
    assert info.tail_in_one_frame == 2
    assert len(bytes.fromhex(info.code_sha256)) == 32


def test_the_ring_holds_at_least_two_windows() -> None:
    stream = Stream(Lane(), code=REC.code).open(code="circuit", endless=True, windows="200,100")
    assert stream.info is not None
    assert stream.info.ring_rounds == 400


def test_epochs_grow_also_over_lanes() -> None:
    epochs = [on(lane, b"a", name).epoch for lane in (Lane(), Lane()) for name in ("x", "y")]
    assert epochs == sorted(set(epochs))


def test_handles_are_not_used_again() -> None:
    lane = Lane()
    first = on(lane, b"a")
    lane.tell(b"a", encode(Close(first.handle, first.epoch)))
    assert on(lane, b"a").handle != first.handle


def test_close() -> None:
    lane = Lane()
    with bystander(lane):
        stream = on(lane, b"a")
        assert stream.send(0, REC.records[:12]) is None
        ((reply, _),) = lane.tell(b"a", encode(Close(stream.handle, stream.epoch)))
        assert reply == Closed(stream.handle, stream.epoch)
        assert lane.core.sessions == 1
        # Closing is final: what was not committed is not answered.
        lane.work()
        assert [m for m, _ in lane.hear(b"a")] == []
        code_of(WireCode.NOT_OPEN, stream.send(12, REC.records[12:13]))
    assert (lane.stats["opened"], lane.stats["closed"]) == (2, 1)


def test_the_oldest_unanswered_window_says_when_it_is_due() -> None:
    deadline_ns = 5_000_000
    lane = Lane()
    stream = Stream(lane, code=REC.code)
    stream.open(code="circuit", **{**REC.options, "deadline_us": deadline_ns // 1000})
    lane.core.show()
    assert lane.core.stats.oldest_due_ns == 0
    stream.send(0, REC.records[:5])
    lane.core.show()
    assert lane.core.stats.oldest_due_ns == 0, "no window has come whole"
    first = lane.now
    stream.send(5, REC.records[5:6])
    lane.now += 1_000_000
    stream.send(6, REC.records[6:20])
    lane.core.show()
    assert lane.core.stats.oldest_due_ns == first + deadline_ns
    lane.now += 20_000_000
    lane.core.show()
    assert lane.core.stats.oldest_due_ns == first + deadline_ns, "nobody answered it"
    assert len(stream.collect()) == 5
    assert lane.core.stats.oldest_due_ns == 0


def test_a_lane_that_hangs_in_a_section_has_said_when_its_window_was_due(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lane = Lane()
    stream = Stream(lane, code=REC.code)
    stream.open(code="circuit", **{**REC.options, "deadline_us": 5000})
    seen = []

    def hang(jobs: list[Job], most: int) -> int:
        seen.append(lane.core.stats.oldest_due_ns)
        return run_jobs(jobs, most)

    monkeypatch.setattr("qdec.lane.core.run_jobs", hang)
    stream.send(0, REC.records[:6])
    due = lane.now + 5_000_000
    assert len(stream.collect()) == 1
    assert seen == [due]


# -- who holds a stream ------------------------------------------------------------------------


def test_a_second_client_finds_the_stream_busy_while_the_first_lives() -> None:
    lane = Lane()
    first = on(lane, b"a")
    assert first.send(0, REC.records[:12]) is None
    reply = ask(lane, b"b")
    code_of(WireCode.STREAM_BUSY, reply)
    assert reply.reference == 7
    # The first noticed nothing but a message that tells it its credit.
    first._sort(lane.hear(b"a"))
    assert {type(m) for m in first.others} == {Credit}
    commits = first.collect()
    for a, b, last in REC.frames(12, []):
        assert first.send(a, REC.records[a:b], last=last) is None
    same(np.concatenate([commits, first.collect()]), answers("endless"))


def test_a_second_client_gets_the_stream_if_the_first_is_unreachable() -> None:
    lane = Lane()
    with bystander(lane):
        first = on(lane, b"a")
        lane.gone.add(b"a")
        second = on(lane, b"b")
        assert second.epoch > first.epoch
        assert lane.stats["unroutable"] >= 1
        lane.gone.clear()
        code_of(WireCode.NOT_OPEN, first.send(0, REC.records[:1]))
        assert lane.core.sessions == 2


def test_two_ask_for_a_dead_clients_stream_and_one_gets_it() -> None:
    lane = Lane()
    on(lane, b"a")
    lane.gone.add(b"a")
    for peer in (b"b", b"c"):
        lane.core.receive(peer, [request("s"), *REC.code])
    lane.deliver()
    replies = [lane.hear(peer)[0][0] for peer in (b"b", b"c")]
    assert isinstance(replies[0], Opened)
    code_of(WireCode.STREAM_BUSY, replies[1])


def test_the_same_client_twice() -> None:
    lane = Lane()
    first = on(lane, b"a")
    reply = ask(lane, b"a")
    code_of(WireCode.STREAM_BUSY, reply)
    assert "you have" in reply.message
    assert first.send(0, REC.records[:12]) is None
    assert len(first.collect()) == 3


def test_a_cursor_takes_the_stream_over() -> None:
    """Also from a client that is alive, or seems so: only the true one has the cursor."""
    lane = Lane()
    with bystander(lane):
        old = on(lane, b"a")
        assert old.send(0, REC.records[:12]) is None
        before = old.collect()
        new = REC.open(lane, b"b", cursor=old.cursor)
        assert new.epoch > old.epoch
        assert new.retain_from == 9
        code_of(WireCode.NOT_OPEN, old.send(12, REC.records[12:13]))
        ((reply, _),) = lane.tell(b"a", encode(Ping(old.handle, old.epoch)))
        code_of(WireCode.NOT_OPEN, reply)
        for a, b, last in REC.frames(9, []):
            assert new.send(a, REC.records[a:b], last=last) is None
        same(np.concatenate([before, new.collect()]), answers("endless"))
        assert lane.core.sessions == 2


def test_a_client_resumes_on_its_own_connection() -> None:
    """Messages of the old epoch that are still under way are told apart by handle and epoch."""
    lane = Lane()
    stream = on(lane, b"a")
    assert stream.send(0, REC.records[:12]) is None
    before = stream.collect()
    stale = stream.rounds(12, REC.records[12:15])
    stream.open(cursor=stream.cursor, code="circuit", **REC.options)
    ((reply, _),) = lane.tell(b"a", *stale)
    code_of(WireCode.NOT_OPEN, reply)
    for a, b, last in REC.frames(9, []):
        assert stream.send(a, REC.records[a:b], last=last) is None
    same(np.concatenate([before, stream.collect()]), answers("endless"))


def test_a_peer_that_left_frees_all_its_streams() -> None:
    lane = Lane()
    with bystander(lane):
        for name in ("x", "y"):
            on(lane, b"a", name)
        lane.gone.add(b"a")
        lane.core.probe()
        lane.deliver()
        assert lane.core.sessions == 1
    assert lane.stats["closed"] == 2


def test_a_peer_that_stops_reading_loses_its_streams_not_the_lane() -> None:
    lane = Lane()
    with bystander(lane):
        stream = on(lane, b"a")
        assert stream.send(0, REC.records[:12]) is None
        lane.gone.add(b"a")
        lane.work()
        assert lane.core.sessions == 1
        lane.work()


def test_no_more_streams_than_configured() -> None:
    lane = Lane(config(max_streams=2))
    streams = [on(lane, b"a", name) for name in ("x", "y")]
    code_of(WireCode.LIMIT, ask(lane, b"a", stream="z"))
    # A takeover needs no room of its own.
    REC.open(lane, b"b", cursor=streams[0].cursor, stream="x")
    lane.tell(b"a", encode(Close(streams[1].handle, streams[1].epoch)))
    assert isinstance(ask(lane, b"a", stream="z"), Opened)


# -- configured streams ------------------------------------------------------------------------


@pytest.fixture
def configured(tmp_path: Path) -> tuple[StreamConfig, ...]:
    path = tmp_path / "d3.stim"
    path.write_text(REC.text)
    common = {"code": path, "endless": True, "windows": "6,3", "deadline_us": 10**9}
    return (
        StreamConfig(name="here", lane=0, **common),
        StreamConfig(name="there", lane=1, **common),
    )


def test_a_configured_stream_needs_only_its_name(configured: tuple[StreamConfig, ...]) -> None:
    lane = Lane(config(*configured, lanes=2))
    stream = Stream(lane).open(stream="here")
    for a, b, last in REC.frames(0, []):
        assert stream.send(a, REC.records[a:b], last=last) is None
    same(stream.collect(), answers("endless"))


def test_a_stream_of_another_lane_is_redirected(configured: tuple[StreamConfig, ...]) -> None:
    settings = config(*configured, lanes=2)
    for index, name, other in ((0, "there", 7601), (1, "here", 7600)):
        reply = Stream(Lane(settings, lane=index)).ask(stream=name)
        assert reply == Redirect(7, f"tcp://127.0.0.1:{other}")


def test_a_configured_streams_settings_stand(configured: tuple[StreamConfig, ...]) -> None:
    lane = Lane(config(*configured, lanes=2))
    for options in ({"windows": "9,3"}, {"tier": "correlated"}, {"endless": False}):
        code_of(WireCode.BAD_OPTION, Stream(lane).ask(stream="here", **options))
    with_code = Stream(lane, code=REC.code)
    code_of(WireCode.BAD_OPTION, with_code.ask(stream="here", code="circuit"))
    code_of(WireCode.BAD_OPTION, with_code.ask(stream="here"))
    # Saying what is so anyway, or nothing in so many words, does no harm.
    agreeing = {"windows": "6,3", "tier": "matching", "endless": True}
    held = Stream(lane, b"x").ask(stream="here", **agreeing)
    assert isinstance(held, Opened)
    lane.tell(b"x", encode(Close(1, held.epoch)))
    silent = {"windows": None, "tier": None, "endless": None, "deadline_us": None, "code": ""}
    lane.core.receive(b"y", [_open_with_nulls("here", silent)])
    assert isinstance(lane.hear(b"y")[0][0], Opened)


def _open_with_nulls(stream: str, fields: dict[str, object]) -> bytes:
    packed: bytes = msgpack.packb([1, 1, 7, {"stream": stream, **fields}])
    return packed


def test_a_configured_stream_may_carry_measurements(
    configured: tuple[StreamConfig, ...],
) -> None:
    raw = recording("endless, raw")
    lane = Lane(config(*configured, lanes=2))
    stream = Stream(lane).open(stream="here", raw=True)
    for a, b, last in raw.frames(0, []):
        assert stream.send(a, raw.records[a:b], last=last) is None
    same(stream.collect(), answers("endless, raw"))


def test_a_new_configuration_counts_for_streams_that_open_later(
    configured: tuple[StreamConfig, ...],
) -> None:
    lane = Lane(config(lanes=2))
    running = on(lane, b"a")
    code_of(WireCode.UNKNOWN_STREAM, Stream(lane, b"b").ask(stream="here"))
    lane.core.configure(config(*configured, lanes=2, guests=False))
    assert isinstance(Stream(lane, b"b").ask(stream="here"), Opened)
    reply = ask(lane, b"c", stream="guest")
    code_of(WireCode.UNKNOWN_STREAM, reply)
    for a, b, last in REC.frames(0, []):
        assert running.send(a, REC.records[a:b], last=last) is None
    same(running.collect(), answers("endless"))


def test_guests_go_to_a_lane_that_takes_them() -> None:
    settings = config(lanes=2)
    closed = settings.lane[0].model_copy(update={"guests": False})
    settings = settings.model_copy(update={"lane": (closed, settings.lane[1])})
    assert ask(Lane(settings), b"a") == Redirect(7, "tcp://127.0.0.1:7601")
    assert isinstance(ask(Lane(settings, lane=1), b"a"), Opened)


def test_a_stream_that_moves_to_another_lane_is_led_there(
    configured: tuple[StreamConfig, ...],
) -> None:
    """Else it would have two owners."""
    lane = Lane(config(*configured, lanes=2))
    stream = Stream(lane).open(stream="here")
    assert stream.send(0, REC.records[:12]) is None
    commits = stream.collect()
    with bystander(lane):
        moved = configured[0].model_copy(update={"lane": 1})
        lane.core.configure(config(moved, configured[1], lanes=2))
        stream.collect()
        assert stream.others == [Closed(stream.handle, stream.epoch)]
        reply = Stream(lane).ask(stream="here", cursor=stream.cursor)
        assert reply == Redirect(7, "tcp://127.0.0.1:7601")
    again = Stream(Lane(config(moved, lanes=2), lane=1)).open(stream="here", cursor=stream.cursor)
    for a, b, last in REC.frames(9, []):
        assert again.send(a, REC.records[a:b], last=last) is None
    same(np.concatenate([commits, again.collect()]), answers("endless"))


def test_a_guest_that_takes_long_to_compile_is_for_lanes_that_serve_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tiny = dict.fromkeys(Tier, 10)
    monkeypatch.setattr(opening, "_HURRIED_COMPONENTS", tiny)
    lane = Lane()
    first = on(lane, b"a", "alone")
    code_of(WireCode.LIMIT, ask(lane, b"b", stream="second"))
    # What is resumed was accepted before: after a restart there may be several of them.
    assert isinstance(ask(lane, b"a", first.cursor, "alone"), Opened)
    lane = Lane()
    with bystander(lane):
        monkeypatch.setattr(opening, "_HURRIED", Limits(targets=10, operations=10))
        lane.core._doorkeeper._library = Library()
        code_of(WireCode.CODE_TOO_LARGE, ask(lane, b"b", stream="second"))


# -- sharing a lane ----------------------------------------------------------------------------


def test_streams_take_turns() -> None:
    """A stream with many windows ready does not keep another waiting for all of them."""
    lane = Lane(tick=600_000)  # every look at the clock uses a slice up
    shots = recording("shots, whole")
    size = shots.ends[0]
    busy = shots.open(lane, b"busy", stream="busy")
    other = shots.open(lane, b"other", stream="other")
    assert busy.send(0, np.tile(shots.records[:size], (36, 1))) is None
    assert other.send(0, shots.records[:size]) is None
    lane.core._sessions[busy.handle].decoder.cost.learn(0, 10**15)  # a window uses its section up
    assert [lane.core.work(), lane.core.work()] == [1, 1]
    lane.deliver()
    assert any(isinstance(m, Commit) for m, _ in lane.hear(b"other"))


@pytest.mark.parametrize("names", [("endless", "endless"), ("shots, whole", "endless")])
def test_neighbours_answer_as_if_alone(names: tuple[str, str]) -> None:
    """Windows of streams that share a code are decoded in one batch."""
    lane = Lane()
    recs = [recording(name) for name in names]
    streams = [r.open(lane, b"p%d" % i, stream=f"s{i}") for i, r in enumerate(recs)]
    taken: list[list[np.ndarray]] = [[], []]
    plans = [r.frames(0, list(range(0, 99, 5 + i))) for i, r in enumerate(recs)]
    for step in range(max(map(len, plans))):
        for stream, rec, plan in zip(streams, recs, plans, strict=True):
            if step < len(plan):
                a, b, last = plan[step]
                assert stream.send(a, rec.records[a:b], last=last) is None
        for i, stream in enumerate(streams):
            taken[i].append(stream.collect())
    for i, name in enumerate(names):
        same(np.concatenate(taken[i]), answers(name))


# -- the end -----------------------------------------------------------------------------------


def test_drain() -> None:
    lane = Lane()
    stream = on(lane, b"a")
    assert stream.send(0, REC.records[:12]) is None
    lane.core.drain()
    code_of(WireCode.DRAINING, ask(lane, b"b", stream="late"))
    code_of(WireCode.DRAINING, ask(lane, b"c", cursor=stream.cursor))
    commits = stream.collect()
    assert len(commits) == 3
    assert stream.others == [Pause(stream.handle, stream.epoch, PauseReason.DRAINING)]
    stream.others.clear()
    lane.core.farewell()
    stream.collect()
    assert stream.others == [Closed(stream.handle, stream.epoch)]
    assert lane.core.sessions == 0
    # Elsewhere it goes on as if nothing had happened.
    again = REC.open(Lane(), cursor=stream.cursor)
    for a, b, last in REC.frames(9, []):
        assert again.send(a, REC.records[a:b], last=last) is None
    same(np.concatenate([commits, again.collect()]), answers("endless"))


def test_status() -> None:
    lane = Lane()
    stream = on(lane, b"a")
    assert stream.send(0, REC.records[:13]) is None
    stream.collect()
    ((reply, _),) = lane.tell(b"ops", encode(Status(41)))
    assert isinstance(reply, StatusReply)
    assert reply.request == 41
    (one,) = reply.body["streams"]
    assert one["stream"] == "s"
    assert (one["next_round"], one["committed"], one["backlog"]) == (13, 9, 4)
    assert one["paused"] == ""
    assert (reply.body["windows"], reply.body["rounds"]) == (3, 13)
    assert sum(dense(reply.body["window"])) == 3
    assert not reply.body["draining"]


def test_status_stays_small_with_many_streams() -> None:
    lane = Lane()
    for n in range(70):
        on(lane, b"a", f"s{n}")
    ((reply, _),) = lane.tell(b"ops", encode(Status(1)))
    assert isinstance(reply, StatusReply)
    assert len(reply.body["streams"]) == 64


def test_counters_count_bytes_and_messages() -> None:
    lane = Lane()
    header = encode(Status(1))
    for _ in range(3):
        lane.tell(b"a", header)
    assert (lane.stats["messages"], lane.stats["bytes_in"]) == (3, 3 * len(header))


def test_the_clock_is_the_callers() -> None:
    core = LaneCore(config(), 0, KEY, LIBRARY, lambda: 5)
    assert core.work() == 0
    assert isinstance(core.stats.window, Histogram)
