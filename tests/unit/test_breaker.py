"""When an accelerator that does not answer is left alone, and when it is asked again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qdec.accelerator.breaker import Breaker

SECOND = 1_000_000_000


def opened(now: int = 0) -> Breaker:
    one = Breaker(misses_to_open=3, hits_to_close=2)
    for _ in range(3):
        one.asked()
        one.miss(now)
    return one


def test_misses_in_a_row_open_it_and_a_hit_among_them_does_not() -> None:
    one = Breaker(misses_to_open=3)
    for _ in range(20):
        one.miss(0)
        one.miss(0)
        one.hit(0)
    assert one.room(0) is None
    for _ in range(3):
        one.miss(0)
    assert one.room(0) == 0
    assert one.is_open


def test_one_failure_opens_it() -> None:
    one = Breaker()
    one.failed(0)
    assert one.room(0) == 0


def test_probes_come_one_at_a_time_and_later_and_later() -> None:
    one, now, waits = opened(), 0, []
    for _ in range(14):
        began = now
        while one.room(now) == 0:
            now += 1_000_000
        waits.append(now - began)
        assert one.room(now) == 1
        one.asked()
        assert one.room(now + SECOND) == 0, "the last probe is still out"
        one.miss(now)
    assert waits == sorted(waits)
    assert waits[0] < SECOND / 100
    assert waits[-1] == SECOND


def test_hits_in_a_row_close_it_and_it_opens_gently_again() -> None:
    one = opened()
    first = SECOND
    assert one.room(first) == 1
    one.asked()
    one.hit(first)
    assert one.room(first) == 1, "one hit is not enough"
    one.asked()
    one.hit(first)
    assert one.room(first) is None
    one.miss(first)
    assert one.room(first) is None


def test_a_miss_between_probes_that_hit_starts_over() -> None:
    one = opened()
    one.asked()
    one.hit(SECOND)
    one.asked()
    one.miss(SECOND)
    assert one.room(SECOND) == 0
    one.asked()
    one.hit(2 * SECOND)
    assert one.room(2 * SECOND) == 1


def test_misses_of_windows_asked_before_it_opened_do_not_delay_the_probe() -> None:
    one = opened()
    for _ in range(50):
        one.miss(0)
    assert one.room(SECOND // 50) == 1


def test_a_probe_that_is_withdrawn_makes_room_for_another() -> None:
    one = opened()
    one.asked()
    one.withdrawn()
    assert one.room(SECOND) == 1


@given(st.lists(st.sampled_from(["ask", "hit", "miss", "fail", "withdraw"]), max_size=60))
def test_whatever_happens_it_can_be_closed_again(events: list[str]) -> None:
    one, now = Breaker(), 0
    does = {"hit": one.hit, "miss": one.miss, "fail": one.failed}
    for event in events:
        now += 1000
        if event == "ask" and one.room(now) != 0:
            one.asked()
        elif event == "withdraw":
            one.withdrawn()
        elif event in does:
            does[event](now)
    one.withdrawn()
    for _ in range(10):
        now += 2 * SECOND
        assert one.room(now) != 0
        one.asked()
        one.hit(now)
    assert one.room(now) is None
