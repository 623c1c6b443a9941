"""Credit that follows latency, in a lane whose every round takes the same time."""

from __future__ import annotations

import time
from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers.accelerators import stream_config
from helpers.lanes import Lane as RealLane
from helpers.lanes import Stream, config
from qdec.lane.credits import _KEPT, Allowance
from qdec.lane.session import Arrival

DEADLINE = 2_000_000
MOST, LEAST, WINDOW = 16_384, 40, 10


class Lane:
    """A queue of rounds, each decoded in `cost` ns; its client sends `per_ms`, as credit allows."""

    def __init__(self, cost: int) -> None:
        self.cost = cost
        self.credit = Allowance(0, MOST, LEAST)
        self.queue: deque[int] = deque()
        self.sent = self.done = self.late = self.windows = self.held = 0
        self.now = self.free_at = 0

    def run(self, per_ms: float, ms: int) -> None:
        """Open loop in steps of 0.1 ms; what there is no credit for is given up."""
        due = 0.0
        for _ in range(10 * ms):
            self.now += 100_000
            due += per_ms / 10
            while due >= WINDOW:
                due -= WINDOW
                if self.sent + WINDOW <= self.credit.until:
                    self.sent += WINDOW
                    self.queue.append(self.now)
                else:
                    self.held += 1
            while self.queue:
                ends = max(self.free_at, self.queue[0]) + WINDOW * self.cost
                if ends > self.now:
                    break
                self.free_at = ends
                latency = ends - self.queue.popleft()
                self.done += WINDOW
                self.windows += 1
                self.late += latency > DEADLINE
                self.credit.answered(self.sent, self.done, latency, DEADLINE)


def test_a_calm_stream_is_never_held_back() -> None:
    lane = Lane(cost=1000)
    lane.run(per_ms=500, ms=200)
    assert lane.held == lane.late == 0
    assert lane.credit.until - lane.done >= _KEPT


@pytest.mark.parametrize("load", [1.1, 1.5, 2.0, 4.0])
def test_past_the_knee_what_is_accepted_is_in_time_and_the_lane_never_idles(load: float) -> None:
    lane = Lane(cost=1000)  # it does 1000 rounds per ms
    lane.run(per_ms=500, ms=100)
    lane.run(per_ms=1000 * load, ms=100)  # what was granted in calm drains
    before, late, windows = lane.done, lane.late, lane.windows
    lane.run(per_ms=1000 * load, ms=500)
    assert lane.done - before >= 0.97 * 500 * 1000
    assert lane.late - late <= 0.02 * (lane.windows - windows)
    assert lane.held > 0


def test_an_overload_that_ends_is_forgotten() -> None:
    lane = Lane(cost=1000)
    lane.run(per_ms=3000, ms=200)
    lane.run(per_ms=0.1, ms=50)
    held = lane.held
    lane.run(per_ms=800, ms=50)
    late = lane.late
    lane.run(per_ms=800, ms=200)
    assert lane.late == late
    assert lane.held - held <= 0.05 * 200 * 800 / WINDOW


def test_windows_that_take_longer_than_their_deadline_go_on() -> None:
    lane = Lane(cost=1_000_000)
    lane.run(per_ms=10, ms=3000)
    assert lane.done >= 2900
    assert lane.credit.until >= lane.done + LEAST


def test_what_is_not_used_does_not_come_back_by_itself() -> None:
    credit = Allowance(0, MOST, LEAST)
    for _ in range(5):
        credit.answered(credit.until, credit.until, 100 * DEADLINE, DEADLINE)
    at, rounds = credit.until, credit.until
    for _ in range(50):
        credit.answered(at, at, DEADLINE // 100, DEADLINE)
    assert LEAST <= credit.until - rounds < 10 * LEAST < _KEPT


@given(
    steps=st.lists(
        st.tuples(st.integers(0, 300), st.integers(0, 300), st.integers(0, 10 * DEADLINE)),
        max_size=60,
    ),
    most=st.integers(20, 20_000),
    least=st.integers(1, 100),
)
def test_credit_is_never_taken_back_and_never_more_than_there_is_room_for(
    steps: list[tuple[int, int, int]], most: int, least: int
) -> None:
    credit = Allowance(7, most, least)
    received = retain = 7
    for sent, answered, latency in steps:
        received = min(credit.until, received + sent)
        retain = min(received, retain + answered)
        before = credit.until
        credit.answered(received, retain, latency, DEADLINE)
        assert credit.until >= before
        assert credit.until - retain <= max(most, before - retain)
        assert credit.until - retain >= min(most, least)


@pytest.mark.parametrize("credit", ["ring", "latency"])
def test_a_stream_gets_less_credit_where_it_is_late_if_it_asked_for_that(credit: str) -> None:
    options = {"tier": "matching", "accelerated": False, "deadline_us": 1000, "credit": credit}
    lane = RealLane(config(stream_config(ring_rounds=4096, **options)))
    stream = Stream(lane).open()
    assert stream.credit_until == 4096
    assert stream.info is not None
    quiet = np.zeros((60, stream.info.record_bytes), np.uint8)
    for first in range(0, 4080, 60):
        # The lane has worked all the while: it is not the operating system that is slow.
        lane.core.arrived = Arrival(lane.now, time.thread_time_ns() - 10**10)
        assert stream.send(first, quiet) is None
        lane.now += 10_000_000
        stream.collect()
    if credit == "ring":
        assert stream.credit_until == stream.retain_from + 4096
    else:
        assert stream.retain_from + 40 <= stream.credit_until <= stream.retain_from + 200
