"""When systemd is told that all is well and when a lane is given up, stepped look by look."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdec.supervisor.policy import WARM_UP_S
from qdec.supervisor.vigil import FORGIVEN_S, TRIES, GiveUp, Sight, Verdict, Vigil

STALL, OVERDUE = 10.0, 4.0
WELL = Verdict()


@dataclass
class Lane:
    """One lane, looked at five times a second, and who replaces it."""

    vigil: Vigil = field(default_factory=lambda: Vigil(STALL, OVERDUE))
    now: float = 1000.0
    child: int | None = 1
    due: float | None = None
    silent: bool = False
    replaced: int = 0
    worries: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.beat = self.now

    def look(self) -> Verdict:
        self.now += 0.2
        if not self.silent:
            self.beat = self.now
        verdict = self.vigil.look(self.now, [Sight(0, self.child, self.beat, self.due)])
        self.worries.append(verdict.worry)
        return verdict

    def wait(self, seconds: float) -> list[GiveUp]:
        """What was given up meanwhile."""
        return [one for _ in range(round(seconds * 5)) for one in self.look().give_up]


def test_an_idle_lane_is_well() -> None:
    lane = Lane()
    assert lane.wait(3600) == []
    assert set(lane.worries) == {""}


def test_a_stuck_window_stops_the_pings_and_then_has_the_lane_replaced() -> None:
    lane = Lane()
    lane.wait(10)
    lane.due = lane.now + 1
    assert lane.wait(1 + OVERDUE / 2 - 0.2) == []
    assert lane.worries[-1] == ""
    lane.wait(0.4)
    assert lane.worries[-1] == "lane 0 does not answer"
    (given_up,) = lane.wait(OVERDUE / 2 + 0.4)
    assert given_up.child == 1
    assert given_up.reason.startswith("a window has not been answered 4.")
    lane.child, lane.due = 2, None  # another has its place, and its client sends again
    assert lane.look() == WELL
    lane.due = lane.now
    assert lane.wait(OVERDUE / 2) == []
    lane.due = None
    assert lane.wait(60) == []


def test_who_is_given_up_is_given_up_once() -> None:
    lane = Lane(due=999.0)
    assert len(lane.wait(OVERDUE + 0.4)) == 1
    assert lane.wait(OVERDUE - 1) == []


def test_windows_that_are_late_and_move_on_are_no_reason() -> None:
    lane = Lane()
    for _ in range(300):  # each a minute overdue, and each answered within a second
        lane.due = lane.now - 60
        assert lane.wait(1) == []
    assert set(lane.worries) == {""}


def test_a_window_that_is_not_yet_due_may_take_its_time() -> None:
    lane = Lane()
    lane.due = lane.now + 1000
    assert lane.wait(999) == []
    assert set(lane.worries) == {""}


def test_a_lane_that_does_not_turn_is_the_policys_to_replace() -> None:
    lane = Lane()
    lane.wait(1)
    lane.silent = True
    assert lane.wait(STALL / 2 - 0.2) == []
    assert set(lane.worries) == {""}
    assert lane.wait(60) == []
    assert lane.worries[-1] == "lane 0 does not turn"
    lane.silent = False
    assert lane.look() == WELL


def test_where_replacing_does_not_help_it_is_left_to_systemd() -> None:
    lane = Lane(due=999.0)
    for i in range(TRIES):
        (given_up,) = lane.wait(OVERDUE + 0.4)
        assert given_up.child == lane.child
        lane.child = 2 + i
        lane.due = lane.now  # the same window, sent again
    assert lane.wait(120) == []
    assert set(lane.worries[-500:]) == {"lane 0 does not answer"}  # no ping: the watchdog runs out
    # It is remembered for a while: a day later it is another story.
    lane.due = None
    lane.wait(FORGIVEN_S + 1)
    lane.due = lane.now
    assert len(lane.wait(OVERDUE + 0.4)) == 1


def test_a_place_that_is_being_filled_is_no_reason_unless_that_never_ends() -> None:
    lane = Lane(child=None)
    lane.wait(WARM_UP_S - 1)
    assert set(lane.worries) == {""}
    lane.wait(2)
    assert lane.worries[-1] == "lane 0 cannot be served"
    lane.child = 7
    assert lane.look() == WELL


def test_a_supervisor_that_stood_still_does_not_blame_its_lanes() -> None:
    lane = Lane()
    lane.due = lane.now
    lane.wait(1)
    lane.now += 3600
    lane.beat = lane.now
    assert lane.wait(OVERDUE - 2) == []
    assert len(lane.wait(2)) == 1  # it was not the supervisor's standing still alone


def test_lanes_are_judged_one_by_one_and_those_that_are_gone_forgotten() -> None:
    vigil = Vigil(STALL, OVERDUE)
    now = 0.0
    given_up: list[GiveUp] = []
    while now < OVERDUE + 0.5:
        now += 0.2
        sights = [Sight(0, 1, now), Sight(1, 2, now, 0.1), Sight(2, 3, now)]
        given_up += vigil.look(now, sights).give_up
    assert [one.child for one in given_up] == [2]
    assert vigil.look(now, [Sight(0, 1, now)]) == WELL


def test_new_numbers_hold_from_now_on() -> None:
    lane = Lane(due=999.0)
    lane.vigil.adopt(stall_s=STALL, overdue_s=60)
    assert lane.wait(30) == []
    lane.vigil.adopt(stall_s=STALL, overdue_s=1)
    assert len(lane.wait(0.4)) == 1


@pytest.mark.parametrize("answers_s", [0.1, 1.0, 3.9])
@given(data=st.data())
def test_nobody_is_given_up_who_answers_within_the_time(
    answers_s: float, data: st.DataObject
) -> None:
    """Whatever the deadlines: a lane that moves on is never given up."""
    vigil = Vigil(STALL, OVERDUE)
    now = 0.0
    for due in data.draw(st.lists(st.floats(-1000, 1000), max_size=20)):
        end, due = now + answers_s, now + due
        while now < end:
            now += 0.1
            assert vigil.look(now, [Sight(0, 1, now, due)]).give_up == ()
