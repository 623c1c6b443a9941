"""Lanes that share a stream: who answers for which part, and what a part's cursor is good for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helpers.circuits import memory
from helpers.lanes import KEY, Lane, Stream, code_of, config, same
from helpers.recordings import RECORDINGS, Recording, answers, recording
from qdec.bits import Bytes, pack
from qdec.bus.cursor import unseal
from qdec.bus.wire import Closed, Opened, Redirect
from qdec.client.split import merge
from qdec.commit import Flag
from qdec.config import Config, StreamConfig
from qdec.errors import ConfigError, WireCode
from qdec.lane.library import Library
from qdec.match import Tier
from qdec.windows import Geometry

ENDPOINTS = ["tcp://127.0.0.1:7600", "tcp://127.0.0.1:7601"]
# Those that X and Z share, and that a part can answer.
SHARED = [
    name
    for name in RECORDINGS
    if not any(word in name for word in ("correlated", "late reading", "quiet tail"))
]


def shared(folder: Path, name: str, **changed: Any) -> StreamConfig:
    """A recording's code as a stream that lanes 0 and 1 share."""
    rec = recording(name)
    path = folder / "code.stim"
    path.write_text(rec.text)
    settings = {"name": "s", "code": path, "lanes": (0, 1), **rec.options, **changed}
    return StreamConfig(deadline_us=1_000_000_000, ring_rounds=256, **settings)


def settings(*streams: StreamConfig) -> Config:
    return config(*streams, lanes=2)


def both(made: Config) -> list[Stream]:
    """Both parts, opened on a lane each."""
    return [Stream(Lane(made, lane=k)).open(part=k) for k in (0, 1)]


def play(rec: Recording, streams: list[Stream], lost: Bytes | None = None) -> list[np.ndarray]:
    """The rest of a recording to both; what each answers."""
    assert streams[0].info is not None
    for first, end, last in rec.frames(streams[0].info.next_round, []):
        for stream in streams:
            part = None if lost is None else lost[first:end]
            assert stream.send(first, rec.records[first:end], last=last, lost=part) is None
    rows = [stream.collect() for stream in streams]
    assert rows[0]["window"].tolist() == rows[1]["window"].tolist()
    return rows


@pytest.mark.parametrize("name", SHARED)
def test_the_parts_of_a_recording_are_its_whole(tmp_path: Path, name: str) -> None:
    """The samples are too few for a tie, and so for any difference."""
    rows = play(recording(name), both(settings(shared(tmp_path, name))))
    assert all(len(part) for part in rows)
    same(merge([part.copy() for part in rows]), answers(name))


@pytest.mark.parametrize("name", SHARED)
def test_each_part_resumes_by_itself(tmp_path: Path, name: str) -> None:
    made = settings(shared(tmp_path, name))
    rec = recording(name)
    expected = play(rec, both(made))
    frames = rec.frames(0, list(range(len(rec.records))))
    taken: list[list[np.ndarray]] = [[], []]
    for k, stream in enumerate(both(made)):
        # The parts are cut at different places.
        for first, end, last in frames[: len(frames) * (k + 1) // 3]:
            assert stream.send(first, rec.records[first:end], last=last) is None
            taken[k].append(stream.collect())
        again = Stream(Lane(made, lane=k)).open(cursor=stream.cursor, part=k)
        assert again.info is not None
        for first, end, last in rec.frames(again.info.next_round, []):
            assert again.send(first, rec.records[first:end], last=last) is None
        taken[k].append(again.collect())
        same(np.concatenate(taken[k]), expected[k])


def test_what_is_agreed(tmp_path: Path) -> None:
    streams = both(settings(shared(tmp_path, "endless")))
    infos = [stream.info for stream in streams]
    assert [info and (info.part, info.parts) for info in infos] == [(0, ENDPOINTS), (1, ENDPOINTS)]
    alone = recording("endless").open(Lane())
    assert alone.info is not None
    assert (alone.info.part, alone.info.parts) == (0, [])
    for k, stream in enumerate(streams):
        (row,) = stream.lane.core.status()["streams"]
        assert row["part"] == f"{k} of 2"
        cursor = unseal(stream.cursor, "s", KEY)
        assert (cursor.part, cursor.parts) == (k, 2)


def test_each_part_has_its_lane(tmp_path: Path) -> None:
    made = settings(shared(tmp_path, "endless"))
    assert Stream(Lane(made, lane=1)).ask(part=0) == Redirect(7, ENDPOINTS[0])
    lane = Lane(made)
    assert Stream(lane).ask(part=1) == Redirect(7, ENDPOINTS[1])
    Stream(lane, b"holder").open(part=0)
    # The part that is open here is not the one that is asked for.
    assert Stream(lane).ask(part=1) == Redirect(7, ENDPOINTS[1])


def test_a_part_that_is_open_is_busy(tmp_path: Path) -> None:
    lane = Lane(settings(shared(tmp_path, "endless")), lane=1)
    Stream(lane, b"holder").open(part=1)
    code_of(WireCode.STREAM_BUSY, Stream(lane, b"other").ask(part=1))


@pytest.mark.parametrize("part", [2, 255])
def test_a_part_that_there_is_not(tmp_path: Path, part: int) -> None:
    lane = Lane(settings(shared(tmp_path, "endless")))
    code_of(WireCode.BAD_OPTION, Stream(lane).ask(part=part))


def test_a_client_that_knows_of_no_parts_is_given_none(tmp_path: Path) -> None:
    """It would take one part's frames for the stream's."""
    made = settings(shared(tmp_path, "endless"))
    cursor = both(made)[0].cursor
    for lane in (0, 1):
        code_of(WireCode.BAD_OPTION, Stream(Lane(made, lane=lane)).ask())
        code_of(WireCode.BAD_OPTION, Stream(Lane(made, lane=lane)).ask(cursor=cursor))


def test_a_stream_in_one_piece_has_a_first_part_and_no_second(tmp_path: Path) -> None:
    alone = settings(shared(tmp_path, "endless", lanes=()))
    code_of(WireCode.BAD_OPTION, Stream(Lane(alone)).ask(part=1))
    streams = [Stream(Lane(alone)).open(**part) for part in ({}, {"part": 0})]
    for rows in play(recording("endless"), streams):
        same(rows, answers("endless"))


def test_a_guest_has_no_parts() -> None:
    rec = recording("endless")
    for part in (0, 1):
        guest = Stream(Lane(), code=rec.code)
        code_of(WireCode.BAD_OPTION, guest.ask(part=part, code="circuit", **rec.options))


def test_a_cursor_is_good_for_its_own_part_only(tmp_path: Path) -> None:
    made = settings(shared(tmp_path, "endless"))
    streams = both(made)
    play(recording("endless"), streams)
    for k, stream in enumerate(streams):
        other = 1 - k
        asker = Stream(Lane(made, lane=other))
        reply = asker.ask(part=other, cursor=stream.cursor)
        code_of(WireCode.BAD_CURSOR, reply)
        assert f"the cursor is for part {k} of 2, and this is part {other} of 2" in str(reply)
        assert isinstance(Stream(Lane(made, lane=k)).ask(part=k, cursor=stream.cursor), Opened)


def test_a_cursor_of_the_whole_is_none_of_a_part_nor_the_other_way_round(tmp_path: Path) -> None:
    split = settings(shared(tmp_path, "endless"))
    alone = settings(shared(tmp_path, "endless", lanes=()))
    cursor = Stream(Lane(alone)).open().cursor
    code_of(WireCode.BAD_CURSOR, Stream(Lane(split)).ask(part=0, cursor=cursor))
    cursor = Stream(Lane(split)).open(part=0).cursor
    code_of(WireCode.BAD_CURSOR, Stream(Lane(alone)).ask(part=0, cursor=cursor))


def test_a_part_that_moves_to_another_lane_is_led_there(tmp_path: Path) -> None:
    first = shared(tmp_path, "endless")
    swapped = settings(first.model_copy(update={"lanes": (1, 0)}))
    streams = both(settings(first))
    for k, stream in enumerate(streams):
        stream.lane.core.configure(swapped)
        stream.collect()
        assert stream.others == [Closed(stream.handle, stream.epoch)]
        assert stream.ask(part=k, cursor=stream.cursor) == Redirect(7, ENDPOINTS[1 - k])
        there = Stream(Lane(swapped, lane=1 - k))
        assert isinstance(there.ask(part=k, cursor=stream.cursor), Opened)


def test_a_stream_that_is_shared_from_now_on_is_closed(tmp_path: Path) -> None:
    """Else the lane would go on with the whole while another one begins with a part."""
    split = settings(shared(tmp_path, "endless"))
    stream = Stream(Lane(settings(shared(tmp_path, "endless", lanes=())))).open()
    stream.lane.core.configure(split)
    stream.collect()
    assert stream.others == [Closed(stream.handle, stream.epoch)]


def test_a_configuration_that_leaves_the_parts_alone_disturbs_nobody(tmp_path: Path) -> None:
    first = shared(tmp_path, "endless")
    streams = both(settings(first))
    more = first.model_copy(update={"name": "more", "lanes": (1, 0)})
    for stream in streams:
        stream.lane.core.configure(settings(first, more))
    rows = play(recording("endless"), streams)
    same(merge(rows), answers("endless"))


@pytest.mark.parametrize("name", ["endless", "endless, raw", "shots, whole", "raw, whole"])
def test_a_lost_bit_is_one_parts(tmp_path: Path, name: str) -> None:
    """The other one goes on as if nothing had happened; together they say what the whole says."""
    rec = recording(name)
    made = settings(shared(tmp_path, name))
    undisturbed = play(rec, both(made))
    at = 4
    for bit in range(4):
        lost = np.zeros_like(rec.records)
        lost[at, 0] = 1 << bit
        alone = rec.open(Lane())
        for first, end, last in rec.frames(0, []):
            part = rec.records[first:end]
            assert alone.send(first, part, last=last, lost=lost[first:end]) is None
        rows = play(rec, both(made), lost)
        marked = [bool((part["flags"] & Flag.ERASURE).any()) for part in rows]
        assert sorted(marked) == [False, True]
        quiet = marked.index(False)
        same(rows[quiet], undisturbed[quiet])
        np.testing.assert_array_equal(merge(rows)["flags"], alone.collect()["flags"])


def test_a_measurement_that_two_parts_share_cannot_be_erased(tmp_path: Path) -> None:
    """Readings 0 and 1 are compared by one detector each, and both with reading 2."""
    lines = ["R 0 1 2"]
    for r in range(6):
        lines += ["X_ERROR(0.1) 0 1", "M 0 1 2"]
        back = 3 if r else 0
        lines += [
            f"DETECTOR({q}, 0, {r}) rec[{q - 3}] rec[-1]"
            + (f" rec[{q - 3 - back}] rec[{-1 - back}]" if r else "")
            for q in (0, 1)
        ]
    lines += ["OBSERVABLE_INCLUDE(0) rec[-3]", "OBSERVABLE_INCLUDE(1) rec[-2]"]
    path = tmp_path / "code.stim"
    path.write_text("\n".join(lines))
    stream = StreamConfig(
        name="s", code=path, lanes=(0, 1), raw=True, windows="whole", ring_rounds=64
    )
    streams = both(settings(stream))
    records = np.zeros((6, 1), dtype=np.uint8)
    for bit, flags in ((0, [Flag.ERASURE, 0]), (1, [0, Flag.ERASURE])):
        lost = np.zeros_like(records)
        lost[5] = 1 << bit
        heard = []
        for one in streams:
            start = one.retain_from
            assert one.send(start, records, lost=lost) is None
            heard.append(int(one.collect()["flags"][0]) & ~Flag.SHOT_END)
        assert heard == flags
    lost[5] = 1 << 2
    for one in streams:
        assert one.send(one.retain_from, records, lost=lost) is None
        assert one.collect()["flags"][0] & Flag.ERASURE_IGNORED


def test_all_parts_are_warm_before_a_lane_serves(tmp_path: Path) -> None:
    library = Library()
    stream = shared(tmp_path, "endless")
    library.warm(stream, 1 << 20)
    code = library.configured(stream)
    ready = {bank.part: bank.num_compiled for bank in library._banks.values()}
    assert ready.keys() == set(code.split(2))
    whole = library.bank(code, Tier.MATCHING, Geometry(6, 3), None)
    assert set(ready.values()) == {whole.num_compiled}


def test_a_code_that_falls_into_too_few_pieces_is_named(tmp_path: Path) -> None:
    path = tmp_path / "code.stim"
    path.write_text(str(memory("repetition_code:memory")))
    stream = StreamConfig(name="chain", code=path, lanes=(0, 1))
    with pytest.raises(ConfigError, match=r"stream 'chain': .* at most one lane can decode it"):
        Library().warm(stream, 1 << 20)


def test_random_events_give_parts_that_answer_the_same_windows(tmp_path: Path) -> None:
    """Syndromes that no noise would make: the parts still pair, and nothing is infeasible."""
    rec = recording("shots, windows")
    made = settings(shared(tmp_path, "shots, windows"))
    streams = both(made)
    used = np.bitwise_or.reduce(rec.records, axis=0)
    rng = np.random.default_rng(3)
    noise = pack(rng.random((len(rec.records), 8 * rec.records.shape[1])) < 0.4) & used
    rounds = rec.ends[0]
    noise[[0, rounds - 1]] &= 0x0F  # a shot's first and last round have four detectors
    for stream in streams:
        assert stream.send(0, noise[:rounds]) is None
    rows = merge([stream.collect() for stream in streams])
    assert rows["window"].tolist() == list(range(len(rows)))
    assert not (rows["flags"] & Flag.INFEASIBLE).any()
