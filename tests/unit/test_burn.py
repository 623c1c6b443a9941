"""Burn rates and pauses, stepped over timelines: what is measured, when to stop and to go on."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdec.lane.burn import BurnRates, Totals
from qdec.lane.degraded import Degradation, Verdict
from qdec.slo import DEADLINE, OBJECTIVES, WINDOWS, Slo

S = 1_000_000_000
SLO = Slo(
    pause_on=("deadline",), deadline_misses=0.01, pause_burn=10.0, pause_hold_s=5, probation_s=8
)
PAUSE, PROCEED = Verdict.PAUSE, Verdict.PROCEED


class Timeline:
    """A stream, judged every second: so many windows in it, and a share of them late."""

    def __init__(self, slo: Slo = SLO) -> None:
        self.now = 0
        self.windows = self.late = 0
        self.rates = BurnRates()
        self.slo = slo
        self.one = Degradation(slo)
        self.said: list[tuple[int, Verdict]] = []

    def seconds(self, count: int, share: float = 0.0, windows: int = 1000) -> list[Verdict]:
        """What was said in so many seconds."""
        before = len(self.said)
        for _ in range(count):
            self.now += S
            self.windows += windows
            self.late += round(share * windows)
            totals = Totals(self.windows, (0, self.late, 0, 0))
            self.rates.step(self.now, totals)
            verdict = self.one.step(self.now, totals, self.rates)
            if verdict is not None:
                self.said.append((self.now // S, verdict))
        return [verdict for _, verdict in self.said[before:]]

    @property
    def burn(self) -> tuple[float, ...]:
        return self.rates.of(self.slo.budgets)[DEADLINE]


seconds = st.tuples(st.integers(0, 300), st.integers(0, 300))


@settings(max_examples=60)
@given(st.lists(seconds, min_size=1, max_size=700))
def test_a_rate_is_that_of_its_window_but_for_a_bucket(counted: list[tuple[int, int]]) -> None:
    line = Timeline()
    history = [(0, 0)]
    for windows, late in counted:
        line.seconds(1, min(1.0, late / windows) if windows else 0.0, windows)
        history.append((line.windows, line.late))
    for (_, span), got in zip(WINDOWS, line.burn, strict=True):
        # The first snapshot is of the first step, and later ones come every five seconds.
        starts = [max(1, len(history) - 1 - span - more) for more in range(6)]
        possible = []
        for start in starts:
            windows, late = (a - b for a, b in zip(history[-1], history[start], strict=True))
            possible.append(late / windows / SLO.deadline_misses if windows else 0.0)
        assert any(got == pytest.approx(one) for one in possible)


def test_its_memory_does_not_grow() -> None:
    def size() -> int:
        return sum(sys.getsizeof(kept) + 100 * len(kept) for kept in line.rates._kept)

    line = Timeline()
    line.seconds(700)
    full = size()
    line.seconds(2000)
    assert size() <= full
    assert full < 20_000


def test_within_the_budget_nothing_is_said() -> None:
    line = Timeline()
    assert not line.seconds(1200, share=0.01)
    assert line.burn == pytest.approx((1.0, 1.0))


def test_a_blip_and_what_is_long_over_do_not_pause() -> None:
    line = Timeline()
    line.seconds(600)
    assert not line.seconds(4, share=1.0)
    assert line.burn[0] > 5
    assert not line.seconds(600)


def test_an_outage_pauses_once_it_has_lasted() -> None:
    line = Timeline()
    line.seconds(600)
    # Ten times the budget over 600 s is 60 s of it, or 6 s of an outage that is a hundred times.
    assert line.seconds(10, share=1.0) == []
    assert line.seconds(60, share=1.0)[:1] == [PAUSE]
    assert line.said[0][0] == pytest.approx(600 + 60 + 5, abs=6)
    assert line.one.why.startswith("deadline at ")


def test_few_windows_are_no_rate() -> None:
    line = Timeline()
    assert not line.seconds(19, share=1.0, windows=1)


def test_who_obeys_may_try_again_and_is_well() -> None:
    line = Timeline()
    while not line.one.paused:
        line.seconds(1, share=1.0)
    # Nothing comes: that is no evidence, so it takes the whole wait.
    assert line.seconds(7, windows=0) == []
    assert line.seconds(1, windows=0) == [PROCEED]
    assert not line.one.paused
    assert not line.seconds(1200)
    # It is healthy again: another outage is one from the beginning.
    assert line.seconds(80, share=1.0)[:1] == [PAUSE]


def test_a_relapse_costs_twice_the_wait() -> None:
    line = Timeline()
    line.seconds(600, share=1.0, windows=1000)
    times = [t for t, _ in line.said]
    assert [v for _, v in line.said] == [PAUSE, PROCEED] * (len(times) // 2) + [PAUSE] * (
        len(times) % 2
    )
    waits = [b - a for a, b in zip(times[::2], times[1::2], strict=False)]
    assert waits == [8 * 2**i for i in range(len(waits))]
    assert len(waits) > 3
    # On probation one second of windows is enough.
    assert {b - a for a, b in zip(times[1::2], times[2::2], strict=False)} == {1}


def test_who_goes_on_in_spite_of_it_proceeds_once_it_is_well() -> None:
    slo = SLO.model_copy(update={"probation_s": 3600.0})
    line = Timeline(slo)
    line.seconds(30, share=1.0)
    assert [v for _, v in line.said] == [PAUSE]
    assert line.seconds(55) == []
    assert line.seconds(10) == [PROCEED]


def test_between_the_thresholds_what_was_decided_stands() -> None:
    slo = SLO.model_copy(update={"probation_s": 3600.0})
    line = Timeline(slo)
    line.seconds(30, share=1.0)
    assert line.seconds(600, share=0.05) == [], "five times the budget: no reason to proceed"
    line = Timeline(slo)
    assert line.seconds(600, share=0.05) == [], "nor one to pause"


def test_what_is_not_named_does_not_pause() -> None:
    line = Timeline(SLO.model_copy(update={"pause_on": ("latency",)}))
    assert not line.seconds(600, share=1.0)
    assert line.burn[0] == pytest.approx(100)


def test_who_does_not_want_to_be_paused_any_more_may_proceed() -> None:
    line = Timeline()
    line.seconds(12, share=1.0)
    assert line.one.paused
    line.one.adopt(SLO.model_copy(update={"pause_on": ()}))
    assert line.seconds(1, share=1.0) == [PROCEED]


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 40),
            st.sampled_from([0.0, 0.005, 0.05, 0.3, 1.0]),
            st.sampled_from([0, 3, 1000]),
        ),
        max_size=30,
    ),
    st.lists(st.sampled_from(OBJECTIVES), max_size=4, unique=True),
)
def test_pauses_and_their_ends_alternate_and_nobody_pauses_for_ever(
    timeline: list[tuple[int, float, int]], on: list[str]
) -> None:
    line = Timeline(SLO.model_copy(update={"pause_on": tuple(on)}))
    for count, share, windows in timeline:
        line.seconds(count, share, windows)
    assert all(v is (PAUSE, PROCEED)[i % 2] for i, (_, v) in enumerate(line.said))
    if "deadline" not in on:
        assert not line.said
    line.seconds(700, windows=0)
    assert not line.one.paused
    line.seconds(700)
    before = len(line.said)
    line.seconds(1300)
    assert len(line.said) == before
