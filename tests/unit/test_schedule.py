"""The lane's scheduling policy: urgent first, sections bounded, nobody starved."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdec.commit.cost import CostModel
from qdec.lane.schedule import Turn, Waiting, effective_due, latest_start, plan

MS = 1_000_000
LONGEST = 1 * MS


def test_the_most_urgent_goes_first() -> None:
    waiting = [Waiting(1, 9 * MS, 10_000), Waiting(2, 5 * MS, 10_000), Waiting(3, 7 * MS, 10_000)]
    assert [turn.stream for turn in plan(waiting, 0, LONGEST)] == [2, 3, 1]


def test_a_section_ends_before_another_would_be_late() -> None:
    """The second has 400 µs to be answered and takes 100: the first gets 300."""
    waiting = [
        Waiting(1, 399_000, 50_000, ready=100),
        Waiting(2, 400_000, 100_000),
    ]
    assert plan(waiting, 0, LONGEST)[0] == Turn(1, 6, 300_000)


def test_a_section_is_no_longer_than_it_may() -> None:
    assert plan([Waiting(1, 50 * MS, 100_000, ready=100)], 0, LONGEST) == [Turn(1, 10, LONGEST)]


def test_a_window_that_alone_is_too_long_is_decoded_alone() -> None:
    waiting = [Waiting(1, 5 * MS, 30 * MS, ready=9), Waiting(2, 100 * MS, 20_000)]
    assert plan(waiting, 0, LONGEST) == [Turn(1, 1, LONGEST)]


def test_a_costly_window_lets_a_cheap_one_go_first_that_it_would_make_late() -> None:
    waiting = [Waiting(1, 1 * MS, 30 * MS), Waiting(2, 2 * MS, 20_000)]
    assert plan(waiting, 0, LONGEST)[0] == Turn(2, 1, LONGEST)


def test_what_is_not_known_is_tried_alone() -> None:
    waiting = [Waiting(1, 1 * MS, 0, ready=9), Waiting(2, 2 * MS, 20_000)]
    assert plan(waiting, 0, LONGEST) == [Turn(1, 1, LONGEST)]


@given(
    st.lists(st.tuples(st.integers(0, 10 * MS), st.integers(0, MS)), max_size=12),
    st.integers(-10 * MS, 10 * MS),
)
def test_begun_by_then_all_are_in_time_and_any_later_one_is_not(
    windows: list[tuple[int, int]], later: int
) -> None:
    def in_time(start: int) -> bool:
        for due, cost in sorted(windows):
            start += cost
            if start > due:
                return False
        return True

    latest = latest_start(windows)
    if windows:
        assert in_time(latest)
        assert not in_time(latest + 1)
    assert in_time(min(latest, later))


waits = st.builds(
    Waiting,
    stream=st.integers(1, 1000),
    due=st.integers(-10 * MS, 10 * MS),
    cost=st.integers(0, 3 * MS),
    ready=st.integers(1, 300),
)


@given(st.lists(waits, min_size=1, max_size=20, unique_by=lambda w: w.stream))
def test_sections_keep_their_bounds(waiting: list[Waiting]) -> None:
    by_stream = {w.stream: w for w in waiting}
    turns = plan(waiting, 0, LONGEST)
    assert turns
    assert len({t.stream for t in turns}) == len(turns)
    for turn in turns:
        assert 1 <= turn.windows <= by_stream[turn.stream].ready
    took = sum(t.windows * by_stream[t.stream].cost for t in turns)
    alone = len(turns) == 1 and turns[0].windows == 1
    assert alone or took <= LONGEST
    served = {t.stream for t in turns}
    for other in waiting:
        slack = other.due - other.cost
        if other.stream not in served and slack >= 0 and not alone:
            assert took <= slack
    # Nor is one late that gets a turn, and would have been in time had the section ended with it.
    used = 0
    for turn in turns:
        one = by_stream[turn.stream]
        if one.due >= used + one.cost and not alone:
            assert took <= one.due
        used += turn.windows * one.cost


@given(
    costs=st.lists(st.integers(10_000, 900_000), min_size=2, max_size=6),
    deadlines=st.lists(st.integers(1 * MS, 20 * MS), min_size=6, max_size=6),
)
def test_streams_that_are_for_ever_behind_all_get_their_turn(
    costs: list[int], deadlines: list[int]
) -> None:
    """Everybody always has a window ready that came long ago."""
    now = 10**9
    served = [0] * len(costs)
    turns = [0] * len(costs)
    while now < 10**9 + 100 * max(deadlines):
        waiting = [
            Waiting(i, effective_due(0, deadlines[i], served[i]), cost, ready=50)
            for i, cost in enumerate(costs)
        ]
        for turn in plan(waiting, now, LONGEST):
            now += turn.windows * costs[turn.stream]
            served[turn.stream] = now
            turns[turn.stream] += turn.windows
    assert all(turns)


@pytest.mark.parametrize("deadline", [1_000, 100_000, 500_000])
def test_a_stream_that_is_behind_starves_nobody_however_short_its_deadline(deadline: int) -> None:
    """One always has windows that are late; the other needs a tenth of the time, and gets it."""
    now, cost, light = 10**9, 50_000, 100_000
    served = late = answered = 0
    came = now
    while answered < 300:
        waiting = [Waiting(0, effective_due(0, deadline, served), cost, ready=50)]
        if came <= now:
            waiting.append(Waiting(1, effective_due(came, 2 * MS, 0), light))
        for turn in plan(waiting, now, LONGEST):
            now += turn.windows * (cost, light)[turn.stream]
            if turn.stream == 0:
                served = now
            else:
                late += now > came + 2 * MS
                answered += 1
                came += 1 * MS
    assert late <= 3


def test_cost_follows_the_number_of_events() -> None:
    model = CostModel()
    assert model.expect(10) == 0
    for _ in range(50):
        model.learn(100, 40_000)
    assert model.expect(50) == model.expect(100) == model.typical == 40_000
    assert 40 < model.expect(940) / model.typical < 50
    # One dense window teaches nothing about the others.
    model.learn(940, 45 * 40_000)
    assert model.typical < 50_000
    # A machine that has become slower is noticed at once, one that is fast again in a while.
    for _ in range(8):
        model.learn(100, 80_000)
    assert model.typical > 70_000
    model.learn(100, 40_000)
    assert model.typical > 70_000
