"""How early to stop waiting: a lane that was late remembers, and forgets slowly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from helpers.accelerators import Pair
from helpers.services import rounds_of_a_shot
from qdec.lane.margin import Margin

FAR = 1 << 60


def test_it_rises_at_once_and_falls_slowly() -> None:
    one = Margin(100)
    assert one.of(FAR) == 100
    one.learn(-50)
    assert one.of(FAR) == 100
    one.learn(1000)
    assert one.of(FAR) == 1100
    for _ in range(10):
        one.learn(0)
    assert 900 < one.of(FAR) < 1100
    for _ in range(1000):
        one.learn(0)
    assert one.of(FAR) == 100


@given(st.lists(st.integers(-(10**9), 10**12)), st.integers(0, 10**6), st.integers(1, 10**12))
def test_half_of_a_deadline_is_left_to_the_accelerator(
    late: list[int], least: int, deadline: int
) -> None:
    one = Margin(least)
    for ns in late:
        one.learn(ns)
    assert min(least, deadline // 2) <= one.of(deadline) <= deadline // 2


def test_a_lane_that_was_late_stops_waiting_earlier() -> None:
    pair = Pair()
    stream, records = pair.open(), rounds_of_a_shot(200, 1)
    stream.send(0, records[:20])
    stream.collect()
    waits = []
    for first in range(20, 50, 10):
        waits.append(pair.lane.core.wake_at * 1e9 - pair.lane.now)
        # The operating system has other things to do.
        pair.lane.now = int(pair.lane.core.wake_at * 1e9) + 5_000_000
        assert len(stream.collect()) == 1
        pair.beat()
        stream.send(first, records[first : first + 10])
        stream.collect()
    assert waits[1] < waits[0] - 4_000_000
    assert abs(waits[2] - waits[1]) < 2_000_000
