"""A stream with hopelessly dense windows: its lane's other streams do not notice.

Time is virtual where it matters: decoding takes what a programme says, by the number of events.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.circuits import memory
from helpers.lanes import Lane, Stream, config
from qdec.bits import Bytes
from qdec.codes import Code
from qdec.commit import Flag, ShotDecoder, StreamDecoder, WindowBank, run_jobs
from qdec.commit.batch import count_events
from qdec.commit.dense import NEVER, answered_by, is_dense
from qdec.config import Config, StreamConfig
from qdec.lane.library import Library
from qdec.lane.session import Arrival
from qdec.match import Answers, CompiledWindow, Tier, compile_window
from qdec.match.replay import Replay
from qdec.windows import Geometry
from qdec_tools.sampler import EndlessSampler

LaneOf = Callable[..., tuple[Lane, list[Stream]]]
US, MS = 1_000, 1_000_000
UNCERTAIN = int(Flag.UNCERTAIN)
GEOMETRY = Geometry(6, 3)
TEXT = str(memory(d=3, rounds=8, p=0.004))
D3 = Code.parse("circuit", TEXT).streamed(raw=False)


# -- in virtual time -----------------------------------------------------------------------------


class Slow:
    """A decoder that takes as long as it is told, on the lane's clock."""

    notes = ()

    def __init__(self, other: CompiledWindow, lane: list[Lane]) -> None:
        self._other, self._lane = other, lane

    def decode(self, syndromes: Bytes) -> Answers:
        if self._lane:
            for row in syndromes:
                self._lane[0].now += cost_of(count_events(row))
        return self._other.decode(syndromes)


def cost_of(events: int) -> int:
    """8 µs for a common window of the tests' code, 0.9 ms for what noise makes of it."""
    return int(8 * US * max(1.0, events / 2.4) ** 1.7)


@dataclass
class Feed:
    """A stream that sends its next rounds at its own pace, come what may."""

    stream: Stream
    records: Bytes
    period: int
    sent: int = 0
    rows: list[np.ndarray] = field(default_factory=list)

    @property
    def due_at(self) -> int:
        """When the next frame comes."""
        return 1_000_000_000 + (self.sent // 3 + 1) * self.period

    def send(self) -> None:
        rounds = self.records[self.sent : self.sent + 3]
        self.stream.lane.core.arrived = Arrival(self.due_at, time.thread_time_ns())
        assert self.stream.send(self.sent, rounds) is None
        self.sent += 3

    @property
    def commits(self) -> np.ndarray:
        return np.concatenate(self.rows)


@pytest.fixture
def lane_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LaneOf:
    def make(*names: str, deadline_us: int, **service: int) -> tuple[Lane, list[Stream]]:
        (tmp_path / "d3.stim").write_text(TEXT)
        streams = [
            StreamConfig(
                name=name,
                code=tmp_path / "d3.stim",
                endless=True,
                windows=str(GEOMETRY),
                deadline_us=deadline_us,
                ring_rounds=4096,
            )
            for name in names
        ]
        lanes: list[Lane] = []

        def slow(*args: Any) -> CompiledWindow:
            return Slow(compile_window(*args), lanes)

        monkeypatch.setattr("qdec.commit.bank.compile_window", slow)
        lane = Lane(config(*streams, pause_ms=60_000, **service), library=Library())
        clock = SimpleNamespace(monotonic_ns=lane._clock)
        monkeypatch.setattr("qdec.commit.batch.time", clock)
        feeds = [Stream(lane, peer=name.encode()).open(stream=name) for name in names]
        lanes.append(lane)
        return lane, feeds

    return make


def play(lane: Lane, feeds: list[Feed], frames: int) -> None:
    """Deliver every frame at its time, or when the lane next looks; work in between."""
    while any(feed.sent < 3 * frames for feed in feeds):
        coming = [feed for feed in feeds if feed.sent < 3 * frames]
        for feed in coming:
            while feed.due_at <= lane.now and feed.sent < 3 * frames:
                feed.send()
        if not lane.core.work():
            lane.now = max(lane.now, min(feed.due_at for feed in coming))
        for feed in feeds:
            feed.rows.append(feed.stream.collect_once())
    lane.work()
    for feed in feeds:
        feed.rows.append(feed.stream.collect_once())


def calm(rounds: int, seed: int) -> Bytes:
    return EndlessSampler(D3, seed).next(rounds).copy()


def dense(rounds: int, seed: int, share: float = 0.8) -> Bytes:
    """Rounds of noise, now and then, in stretches of ten."""
    records = calm(rounds, seed)
    rng = np.random.default_rng(seed)
    fired = np.packbits(rng.random((*records.shape, 8)) < share, axis=-1, bitorder="little")[..., 0]
    for at in range(0, rounds, 30):
        records[at + 10 : at + 20] = fired[at + 10 : at + 20]
    records[0] &= calm(1, 0)[0] | 0x0F
    return records


def run(lane_of: LaneOf, deadline_us: int, slower: int = 1, **service: int) -> list[Feed]:
    frames = 200
    names = ["dense", "a", "b", "c"]
    lane, streams = lane_of(*names, deadline_us=deadline_us, **service)
    records = [dense(3 * frames, 1), *(calm(3 * frames, seed) for seed in (2, 3, 4))]
    paces = [slower * pace * US for pace in (400, 410, 430, 500)]
    feeds = [Feed(*one) for one in zip(streams, records, paces, strict=True)]
    play(lane, feeds, frames)
    return feeds


def as_replayed(
    rows: np.ndarray, records: Bytes, code: Code = D3, geometry: Geometry = GEOMETRY
) -> None:
    """Assert that commits are what a replay gives by their tiers and flags."""
    tiers = [(answered_by(r["tier"], int(r["flags"])), int(r["count"])) for r in rows]
    # So that no window of theirs is the shot's last one.
    later = np.zeros((2 * geometry.window, records.shape[1]), dtype=np.uint8)
    replayed = Replay(code, geometry).shot(np.concatenate([records, later]), tiers)
    for row, one in zip(rows, replayed, strict=True):
        np.testing.assert_array_equal(row["frame"], one.frame)
        np.testing.assert_array_equal(row["seam"], one.seam)


def test_the_others_keep_their_deadlines(lane_of: LaneOf) -> None:
    noisy, *others = run(lane_of, deadline_us=1000)
    for feed in others:
        rows = feed.commits
        assert len(rows) == 199
        assert not (rows["flags"] & (Flag.LATE | Flag.UNCERTAIN)).any()
        as_replayed(feed.commits, feed.records)
    rows = noisy.commits
    assert rows["window"].tolist() == list(range(199))
    passed = (rows["flags"] & UNCERTAIN) != 0
    assert 20 < passed.sum() < 120
    assert not (rows["flags"] & Flag.LATE).any(), "nor is it late itself"
    assert (rows["confidence"][passed] == 0.5).all()
    assert np.isnan(rows["confidence"][~passed]).all()
    as_replayed(noisy.commits, noisy.records)


def test_without_it_they_would_not(lane_of: LaneOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qdec.commit.stream.is_dense", lambda events, size: False)
    noisy, *others = run(lane_of, deadline_us=1000)
    assert not (noisy.commits["flags"] & UNCERTAIN).any()
    assert sum((feed.commits["flags"] & Flag.LATE != 0).sum() for feed in others) > 10


def test_where_everybody_can_wait_everything_is_decoded(lane_of: LaneOf) -> None:
    for feed in run(lane_of, deadline_us=20_000, slower=4):
        assert not (feed.commits["flags"] & (Flag.LATE | UNCERTAIN)).any()


def test_unless_the_configuration_says_that_it_is_too_long(lane_of: LaneOf) -> None:
    noisy, *_ = run(lane_of, deadline_us=20_000, slower=4, max_section_us=500)
    assert (noisy.commits["flags"] & UNCERTAIN).any()


def test_who_is_alone_waits_for_itself_as_long_as_its_deadline(lane_of: LaneOf) -> None:
    lane, (stream,) = lane_of("dense", deadline_us=3000)
    feed = Feed(stream, dense(600, 1), 400 * US)
    play(lane, [feed], 200)
    assert not (feed.commits["flags"] & UNCERTAIN).any()
    lane, (stream,) = lane_of("dense", deadline_us=300)
    feed = Feed(stream, dense(600, 1), 400 * US)
    play(lane, [feed], 200)
    assert (feed.commits["flags"] & UNCERTAIN).any()
    as_replayed(feed.commits, feed.records)


def test_ordinary_windows_are_decoded_however_long_they_take(
    lane_of: LaneOf, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(f"{__name__}.cost_of", lambda events: 5 * MS)
    lane, (stream, other) = lane_of("slow", "a", deadline_us=500)
    feeds = [Feed(stream, calm(60, 1), 9 * MS), Feed(other, calm(60, 2), 9 * MS)]
    play(lane, feeds, 20)
    for feed in feeds:
        assert not (feed.commits["flags"] & UNCERTAIN).any()
        assert len(feed.commits) == 19
    for _ in range(20):
        lane.core.show()
    for name in ("slow", "a"):
        assert caplog.text.count(f"windows of stream {name} take ") == 1
    assert "can wait for 0.25 ms" in caplog.text


# -- in shots ------------------------------------------------------------------------------------

SHOT = Code.from_circuit(memory(d=3, rounds=4, p=0.01))
WHOLE = Geometry(SHOT.spacetime.rounds, SHOT.spacetime.rounds)


def shot_decoder(kind: type, ring: int = 4096) -> ShotDecoder | StreamDecoder:
    length = SHOT.spacetime.rounds
    bank = WindowBank(SHOT, Tier.MATCHING, WHOLE)
    decoder = kind(bank, length=length, ring_rounds=ring)
    decoder.cost.learn(3, 10 * US)
    return decoder


def noise(shots: int, which: list[bool], seed: int = 0) -> Bytes:
    """Shots, some of them with every other detector fired."""
    length = SHOT.spacetime.rounds
    rng = np.random.default_rng(seed)
    every = np.packbits(rng.random((length, 8)) < 1.0, axis=-1, bitorder="little")
    mask = np.array([every[0, 0] & 0x0F, *([0xFF] * (length - 2)), 0x0F], dtype=np.uint8)[:, None]
    quiet = np.zeros_like(mask)
    return np.concatenate([mask & 0x77 if one else quiet for one in which[:shots]])


@pytest.mark.parametrize("kind", [ShotDecoder, StreamDecoder])
@given(
    which=st.lists(st.booleans(), min_size=1, max_size=40),
    budget=st.sampled_from([1, 100 * US, MS, NEVER]),
    cap=st.sampled_from([1, 100 * US, MS, NEVER]),
    limit=st.integers(1, 50),
)
def test_jobs_stay_within_their_budget_and_pass_over_what_is_too_long(
    kind: type, which: list[bool], budget: int, cap: int, limit: int
) -> None:
    decoder = shot_decoder(kind)
    records = noise(len(which), which)
    length = SHOT.spacetime.rounds
    dense_cost = decoder.cost.expect(count_events(noise(1, [True])))
    assert dense_cost > 100 * US
    for at in range(0, len(records), 7 * length):
        decoder.push(records[at : at + 7 * length], t_recv=1, t_send=1)
    decoder.cost.learn = lambda events, ns: None
    flags = []
    while decoder.ready(1):
        jobs = decoder.jobs(limit, budget, cap)
        assert sum(len(job.syndrome) for job in jobs) <= limit
        costs = [job.cost for job in jobs]
        first = decoder.cost.bound(10) if len(jobs[0].syndrome) > 1 else costs[0]
        assert sum(costs) <= max(budget, first), (costs, budget)
        for job in jobs:
            n, width = job.syndrome.shape
            too_long = [
                is_dense(count_events(row), width) and dense_cost > cap for row in job.syndrome
            ]
            assert any(too_long) == bool(job.flags & UNCERTAIN)
            assert not any(too_long) or n == 1
            assert job.events == count_events(job.syndrome)
        run_jobs(jobs, 64)
        for commit in decoder.commits():
            flags += np.atleast_1d(commit.flags).tolist()
    assert [bool(one & UNCERTAIN) for one in flags] == [one and dense_cost > cap for one in which]


# -- and for real --------------------------------------------------------------------------------


def test_half_dense_windows_at_distance_13_beside_streams_in_a_hurry() -> None:
    d13 = memory(d=13, rounds=30, p=0.003)
    code = Code.from_circuit(d13).streamed(raw=False)
    settings: Config = config()
    lane = Lane(settings)
    lane.core._clock = time.monotonic_ns
    noisy = Stream(lane, b"noisy", (str(d13).encode(),)).open(
        stream="noisy", code="circuit", endless=True, windows="26,13", deadline_us=4000
    )
    hasty = Stream(lane, b"hasty", (str(memory(d=3, rounds=8, p=0.003)).encode(),)).open(
        stream="hasty", code="circuit", endless=True, windows="6,3", deadline_us=2000
    )
    sampler, other = EndlessSampler(code, 1), EndlessSampler(D3, 2)
    records = sampler.next(26 + 13 * 20).copy()
    rng = np.random.default_rng(3)
    half = rng.integers(0, 256, records.shape, dtype=np.uint8)
    half &= np.bitwise_or.reduce(EndlessSampler(code, 4).next(2000)[20:], axis=0)
    records[100:180] = half[100:180]
    rows, hasty_rows = [], []
    sent = 0
    for at in [0, *range(26, len(records), 13)]:
        end = 26 if at == 0 else at + 13
        assert noisy.send(at, records[at:end]) is None
        calm_records = other.next(6 if sent == 0 else 3)
        assert hasty.send(sent, calm_records) is None
        sent += len(calm_records)
        rows.append(noisy.collect())
        hasty_rows.append(hasty.collect_once())
    taken = np.concatenate(rows)
    assert len(taken) == 21
    assert len(np.concatenate(hasty_rows)) == 21
    assert not (np.concatenate(hasty_rows)["flags"] & UNCERTAIN).any()
    dense_windows = [
        is_dense(count_events(records[at : at + 26]), 26 * records.shape[1])
        for at in range(0, len(records) - 25, 13)
    ]
    assert 4 <= sum(dense_windows) < 10
    flagged = ((taken["flags"] & UNCERTAIN) != 0).tolist()
    # It may differ where the seam or what was learned by then decide.
    assert sum(a != b for a, b in zip(flagged, dense_windows, strict=True)) <= 2
    as_replayed(taken, records, code, Geometry(26, 13))
