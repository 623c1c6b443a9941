"""One open stream in a lane: gaps and patience, lateness and pauses, credit and pings."""

from __future__ import annotations

import numpy as np

from helpers.lanes import Lane, Stream, code_of, config, same
from helpers.recordings import Recording, answers, bystander, recording
from qdec.bus.wire import Credit, Error, Pause, PauseReason, Ping, Proceed, encode
from qdec.commit import Flag
from qdec.errors import WireCode

NAME = "endless"
REC = recording(NAME)
GAP_NS = 50_000_000
MS = 1_000_000


def finish(stream: Stream, rec: Recording, first: int) -> np.ndarray:
    for a, b, last in rec.frames(first, []):
        assert stream.send(a, rec.records[a:b], last=last) is None
    return stream.collect()


def test_a_gap_is_asked_for_and_filled() -> None:
    lane = Lane()
    stream = REC.open(lane)
    assert stream.send(0, REC.records[:10]) is None
    for first in (12, 13, 14):  # frames that were under way when the gap was noticed
        error = stream.send(first, REC.records[first : first + 1])
        code_of(WireCode.GAP, error)
        assert error is not None
        assert (error.detail, error.reference) == (10, stream.seq)
        lane.now += 10 * MS
    assert lane.stats["gaps"] == 1
    same(finish(stream, REC, 10), answers(NAME))
    assert lane.stats["rounds_erased"] == 0


def test_a_gap_that_is_never_filled_is_erased_and_flagged() -> None:
    lane = Lane()
    with bystander(lane):
        stream = REC.open(lane)
        assert stream.send(0, REC.records[:12]) is None
        before = stream.collect()
        code_of(WireCode.GAP, stream.send(14, REC.records[14:15]))
        lane.now += GAP_NS - 1
        code_of(WireCode.GAP, stream.send(14, REC.records[14:15]))
        lane.now += 1
        assert stream.send(14, REC.records[14:15]) is None
        commits = np.concatenate([before, finish(stream, REC, 15)])
    assert lane.stats["rounds_erased"] == 2
    neighbour = len(recording("shots, windows").records)
    assert lane.stats["rounds"] == len(REC.records) - 2 + neighbour
    assert commits["window"].tolist() == answers(NAME)["window"].tolist()
    flagged = commits["flags"] & Flag.ERASURE != 0
    first, end = commits["first_round"], commits["first_round"] + 6  # what each window saw
    np.testing.assert_array_equal(flagged, (first <= 13) & (end > 12))
    assert lane.stats["erased"] == flagged.sum()
    # Nothing but the windows that lack the rounds, and what their seams reach, is touched.
    same(commits[commits["first_round"] < 9], answers(NAME)[:3])
    later = commits["first_round"] >= 34  # the next shot
    same(commits[later], answers(NAME)[later])


def test_each_gap_has_its_own_patience() -> None:
    lane = Lane()
    stream = REC.open(lane)
    assert stream.send(0, REC.records[:4]) is None
    code_of(WireCode.GAP, stream.send(6, REC.records[6:7]))
    lane.now += GAP_NS
    assert stream.send(6, REC.records[6:7]) is None
    code_of(WireCode.GAP, stream.send(9, REC.records[9:10]))  # at once would be rash
    assert stream.send(7, REC.records[7:9]) is None
    lane.now += 10 * GAP_NS
    code_of(WireCode.GAP, stream.send(10, REC.records[10:11]))
    assert lane.stats["gaps"] == 3
    assert lane.stats["rounds_erased"] == 2


def test_a_refused_frame_behind_a_gap_erases_nothing() -> None:
    lane = Lane()
    stream = REC.open(lane)
    wrong = np.full((1, 1), 0x10, dtype=np.uint8)  # a first round has 4 bits
    code_of(WireCode.GAP, stream.send(34, REC.records[34:35]))
    lane.now += GAP_NS
    code_of(WireCode.BAD_LENGTH, stream.send(1, wrong, last=True))
    assert lane.stats["rounds_erased"] == 0
    # The stream is where it was, and a filled gap leaves no trace.
    same(finish(stream, REC, 0), answers(NAME))


def test_a_tail_with_a_hole_in_it_still_ends_its_shot() -> None:
    """Else the shot could never end: what is lost will not come in one frame with `last`."""
    stream = REC.open(Lane())
    end = REC.ends[0]
    assert stream.send(0, REC.records[: end - 2]) is None
    code_of(WireCode.GAP, stream.send(end - 1, REC.records[end - 1 : end], last=True))
    stream.lane.now += GAP_NS
    assert stream.send(end - 1, REC.records[end - 1 : end], last=True) is None
    commits = stream.collect()
    assert commits[-1]["flags"] == Flag.SHOT_END | Flag.ERASURE
    assert commits["count"].sum() == end


def test_a_gap_over_several_shots() -> None:
    rec = recording("shots, whole")
    stream = rec.open(Lane())
    size = rec.ends[0]
    assert stream.send(0, rec.records[:3]) is None
    hole = 3 * size + 2
    code_of(WireCode.GAP, stream.send(hole, rec.records[hole : hole + 1]))
    stream.lane.now += GAP_NS
    commits = np.concatenate([stream.collect(), finish(stream, rec, hole)])
    assert stream.lane.stats["rounds_erased"] == hole - 3
    expected = Flag.SHOT_END | Flag.ERASURE
    assert commits["flags"].tolist() == [expected] * 4 + [Flag.SHOT_END] * (len(rec.ends) - 4)
    # Nothing is known of shots 1 and 2: the likeliest is that nothing happened.
    assert not commits["frame"][1:3].any()
    same(commits[4:], answers("shots, whole")[4:])


def test_ping_tells_how_far_the_lane_is() -> None:
    stream = REC.open(Lane())
    ping = encode(Ping(stream.handle, stream.epoch))
    for sent, next_window in ((0, 0), (11, 2)):
        if sent:
            assert stream.send(0, REC.records[:sent]) is None
            stream.collect()
        ((reply, _),) = stream.lane.tell(stream.peer, ping)
        assert reply == Credit(stream.handle, stream.epoch, stream.credit_until, sent, next_window)
    assert stream.credit_until == 262  # 6 rounds are committed


def late_stream(deadline_us: int, pause_ms: float = 20.0) -> Stream:
    lane = Lane(config(pause_ms=pause_ms))
    return REC.open(lane, deadline_us=deadline_us)


def test_late_commits_say_so() -> None:
    stream = late_stream(5_000)
    assert stream.send(0, REC.records[:6]) is None
    stream.lane.now += 5 * MS
    (row,) = stream.collect()
    assert row["latency_ns"] == 5 * MS
    assert not row["flags"] & Flag.LATE
    assert stream.send(6, REC.records[6:9]) is None
    stream.lane.now += 5 * MS + 1
    (row,) = stream.collect()
    assert row["latency_ns"] == 5 * MS + 1
    assert row["flags"] & Flag.LATE
    assert (stream.lane.stats["late"], stream.lane.stats["windows"]) == (1, 2)


def test_latency_saturates_and_stamps_come_back() -> None:
    stream = late_stream(1_000_000)
    assert stream.send(0, REC.records[:6], t_send=2**62 - 1) is None
    assert stream.send(6, REC.records[6:9], t_send=0) is None
    stream.lane.now += 10**12
    rows = stream.collect()
    assert rows["latency_ns"].tolist() == [2**32 - 1] * 2
    assert rows["t_send"].tolist() == [2**62 - 1, 0]


def test_latency_counts_from_a_windows_last_round() -> None:
    stream = late_stream(1_000_000)
    assert stream.send(0, REC.records[:5]) is None
    stream.lane.now += 7 * MS
    assert stream.send(5, REC.records[5:7]) is None
    stream.lane.now += 2 * MS
    assert stream.collect()["latency_ns"].tolist() == [2 * MS]


def test_overload_asks_for_a_pause_and_ends_it() -> None:
    stream = late_stream(5_000)
    at = 0

    def turn(delay_ms: int) -> list[object]:
        nonlocal at
        more = 6 if at == 0 else 3
        assert stream.send(at, REC.records[at : at + more]) is None
        at += more
        stream.lane.now += delay_ms * MS
        assert len(stream.collect()) == 1
        said, stream.others = stream.others, []
        return list(said)

    assert turn(20) == []
    assert turn(21) == [Pause(stream.handle, stream.epoch, PauseReason.OVERLOAD)]
    assert turn(30) == []  # said once
    assert turn(6) == []  # not yet within the deadline
    assert turn(1) == [Proceed(stream.handle, stream.epoch)]
    assert turn(1) == []
    assert turn(99) == [Pause(stream.handle, stream.epoch, PauseReason.OVERLOAD)]


def test_a_client_that_pauses_is_told_to_proceed_once_nothing_is_left() -> None:
    """It sends nothing whose commit could say so."""
    stream = late_stream(5_000)
    lane = stream.lane
    assert stream.send(0, REC.records[:6]) is None
    lane.now += 21 * MS
    stream.collect()
    assert [type(m) for m in stream.others] == [Pause]
    stream.others.clear()
    lane.core.show()
    stream.collect()
    assert stream.others == [Proceed(stream.handle, stream.epoch)]
    lane.core.show()
    stream.collect()
    assert len(stream.others) == 1


def test_a_draining_lane_does_not_say_proceed() -> None:
    stream = late_stream(5_000)
    stream.lane.core.drain()
    assert stream.send(0, REC.records[:6]) is None  # what was on its way is still accepted
    stream.lane.now += 1
    assert len(stream.collect()) == 1
    assert stream.others == [Pause(stream.handle, stream.epoch, PauseReason.DRAINING)]


def test_errors_do_not_use_up_sequence_or_credit() -> None:
    stream = REC.open(Lane())
    for _ in range(5):
        error = stream.send(3, REC.records[:1])
        assert isinstance(error, Error)
    assert finish(stream, REC, 0)["count"].sum() == len(REC.records)
