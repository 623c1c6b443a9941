"""When a stream's controller should pause because its objectives are not met, and when to go on.

A pure policy, stepped about once a second. Who is healthy is asked to pause once an objective that
the configuration names has burned its budget too fast, over both windows, for a while. Who pauses
sends nothing by which the service could see that it is well again, so after a while it may proceed
on probation: then only what comes from then on is judged, and a relapse costs twice the wait. Who
goes on in spite of the pause, or does well on probation, is healthy once the short window says so.
"""

from __future__ import annotations

from enum import Enum

from qdec.lane.burn import BurnRates, Totals, burn
from qdec.slo import OBJECTIVES, Slo

# A rate of fewer windows than these is no rate.
_LEAST = 20
_LONGEST_WAIT_NS = 600_000_000_000


class Verdict(Enum):
    """What to tell the controller."""

    PAUSE = "pause"
    PROCEED = "proceed"


class _State(Enum):
    HEALTHY = "healthy"
    PAUSED = "paused"
    PROBATION = "probation"


class Degradation:
    """Judges one stream.

    Attributes:
        why: what was broken when it was last found to be degraded, in words.
    """

    def __init__(self, slo: Slo) -> None:
        """It is healthy until shown otherwise."""
        self.why = ""
        self._state = _State.HEALTHY
        self._bad_since: int | None = None
        self._until = 0
        self._trial = Totals(0, (0, 0, 0, 0))
        self.adopt(slo)

    def adopt(self, slo: Slo) -> None:
        """Go by these objectives from now on."""
        self._budgets = slo.budgets
        self._on = tuple(OBJECTIVES.index(name) for name in slo.pause_on)
        self._too_fast, self._slow_enough = slo.pause_burn, slo.resume_burn
        self._hold = int(slo.pause_hold_s * 1e9)
        self._first_wait = self._wait = int(slo.probation_s * 1e9)

    @property
    def paused(self) -> bool:
        """Whether its controller has been asked to pause, and not to proceed."""
        return self._state is _State.PAUSED

    def step(self, now: int, totals: Totals, rates: BurnRates) -> Verdict | None:
        """Judge by what has been counted, and by the burn rates of that.

        Args:
            now: ns of any one clock.
            totals: of the stream.
            rates: stepped to the same moment.
        """
        match self._state:
            case _State.HEALTHY:
                return self._watch(now, rates)
            case _State.PAUSED:
                return self._consider(now, totals, rates)
            case _State.PROBATION:
                return self._try(now, totals, rates)

    def _watch(self, now: int, rates: BurnRates) -> Verdict | None:
        if not self._is_too_fast(rates.spent):
            self._bad_since = None
            return None
        if self._bad_since is None:
            self._bad_since = now
        return self._pause(now) if now - self._bad_since >= self._hold else None

    def _consider(self, now: int, totals: Totals, rates: BurnRates) -> Verdict | None:
        if not self._on or self._is_well(rates):
            self._recover()
        elif now >= self._until:
            self._state, self._trial = _State.PROBATION, totals
        else:
            return None
        return Verdict.PROCEED

    def _try(self, now: int, totals: Totals, rates: BurnRates) -> Verdict | None:
        if self._is_too_fast([totals.since(self._trial)]):
            self._wait = min(2 * self._wait, _LONGEST_WAIT_NS)
            return self._pause(now)
        if self._is_well(rates):
            self._recover()
        return None

    def _is_too_fast(self, spent: list[Totals]) -> bool:
        """Whether an objective burns too fast over all of these; `why` says which."""
        for one in self._on:
            rates = [burn(part, one, self._budgets[one]) for part in spent]
            counted = min(part.windows for part in spent)
            if counted >= _LEAST and min(rates) >= self._too_fast:
                self.why = f"{OBJECTIVES[one]} at {rates[0]:.3g} times its budget"
                return True
        return False

    def _is_well(self, rates: BurnRates) -> bool:
        short = rates.spent[0]
        return short.windows >= _LEAST and all(
            burn(short, one, self._budgets[one]) < self._slow_enough for one in self._on
        )

    def _pause(self, now: int) -> Verdict:
        self._state, self._until = _State.PAUSED, now + self._wait
        return Verdict.PAUSE

    def _recover(self) -> None:
        self._state, self._wait = _State.HEALTHY, self._first_wait
        self._bad_since = None
